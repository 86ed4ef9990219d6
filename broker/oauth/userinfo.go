package oauth

import (
	"net/http"
	"slices"
	"strings"
)

// userinfo answers with the claims that an access token's scopes allow (OpenID Connect Core section 5.3).
func (s *Server) userinfo(w http.ResponseWriter, r *http.Request) {
	raw, refusal := bearerToken(r)
	if refusal != nil {
		s.challenge(w, r, refusal)
		return
	}
	if raw == "" {
		// RFC 6750 section 3.1: a request without credentials is told nothing but how to come back.
		w.Header().Set("WWW-Authenticate", `Bearer realm="portico", scope="openid"`)
		writeJSON(w, http.StatusUnauthorized, errorBody{Error: codeInvalidToken, Description: "send an access token as Authorization: Bearer"})
		return
	}
	access, _, err := s.access.Verify(raw)
	if err != nil {
		s.challenge(w, r, unauthorized("the access token is expired or not one of this server's").because(err))
		return
	}
	if !slices.Contains(access.Audience, s.issuer) {
		s.challenge(w, r, unauthorized("the access token is for other apis; ask for one with resource="+s.issuer))
		return
	}
	if !slices.Contains(access.Scopes, ScopeOpenID) {
		e := refuse(codeInsufficientScope, "userinfo needs the scope openid")
		e.Status = http.StatusForbidden
		s.challenge(w, r, e)
		return
	}
	account, err := s.bearerAccount(r.Context(), access)
	if err != nil {
		if e := asError(err); e.Code == codeInvalidToken {
			s.challenge(w, r, unauthorized(e.Description))
			return
		}
		s.writeError(w, r, err)
		return
	}
	answer := claims(account, access.Scopes)
	answer["sub"] = access.Subject
	writeJSON(w, http.StatusOK, answer)
}

func unauthorized(description string) *Error {
	return &Error{Code: codeInvalidToken, Description: description, Status: http.StatusUnauthorized}
}

// bearerToken finds the access token: in the Authorization header (RFC 6750 section 2.1) or, with POST, in the form
// (section 2.2). One in the URL is never looked at. "" if there is none.
func bearerToken(r *http.Request) (string, *Error) {
	var fromHeader, fromForm string
	if header := r.Header.Get("Authorization"); header != "" {
		scheme, value, _ := strings.Cut(header, " ")
		if strings.EqualFold(scheme, "Bearer") {
			fromHeader = strings.TrimSpace(value)
		}
	}
	if r.Method == http.MethodPost && strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		p, refusal := formParams(r)
		if refusal != nil {
			return "", refusal
		}
		fromForm = p.get("access_token")
	}
	if fromHeader != "" && fromForm != "" {
		return "", refuse(codeInvalidRequest, "the access token is there twice; send it once")
	}
	return fromHeader + fromForm, nil
}

// challenge refuses a bearer token as RFC 6750 section 3 words it.
func (s *Server) challenge(w http.ResponseWriter, r *http.Request, e *Error) {
	s.logRefusal(r.Context(), e)
	header := `Bearer realm="portico", error="` + e.Code + `", error_description="` + describable(e.Description) + `"`
	if e.Code == codeInsufficientScope {
		header += `, scope="openid"`
	}
	w.Header().Set("WWW-Authenticate", header)
	writeJSON(w, e.Status, errorBody{Error: e.Code, Description: describable(e.Description)})
}
