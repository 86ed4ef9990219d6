package oauth

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/portico-id/portico/broker/flow"
	"github.com/portico-id/portico/broker/grant"
	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/broker/resource/challenge"
)

// The response modes (OAuth 2.0 Multiple Response Type Encoding Practices section 2.1, OAuth 2.0 Form Post Response Mode).
const (
	modeQuery    = "query"
	modeFragment = "fragment"
	modeFormPost = "form_post"
)

var responseModes = []string{modeQuery, modeFragment, modeFormPost}

// Respond ends a flow at the app: with its code where the flow is done, with its error where it
// failed. The flow has been saved, if it was worth saving.
//
// A code is sent again for as long as it was not redeemed, so that a lost response or a reload harms nothing; afterwards
// a second copy would count as a replay and cost the person their tokens, so they see a page instead.
//
// An error takes nobody to an app that no operator has checked: the person is shown where that leads, and goes by themselves.
func (s *Server) Respond(w http.ResponseWriter, r *http.Request, doc *flow.Doc) {
	f := &doc.Value
	answer := url.Values{"iss": {s.issuer}} // RFC 9207 section 2: with errors too
	if f.Request.State != "" {
		answer.Set("state", f.Request.State)
	}
	switch f.Step {
	case flow.Failed:
		answer.Set("error", f.Failure.Code)
		answer.Set("error_description", challenge.Text(f.Failure.Description))
		client, err := s.unvouched(r, &f.Request)
		if err != nil {
			s.showError(w, r, internalPage(err))
			return
		}
		if client != nil {
			l := Leaving{Client: client, Code: f.Failure.Code, Location: f.Request.RedirectURI}
			if f.Request.ResponseMode == modeFormPost {
				l.Form = answer
			} else {
				l.Location = withAnswer(f.Request.RedirectURI, f.Request.ResponseMode, answer)
			}
			s.askToLeave(w, r, l)
			return
		}
	case flow.Done:
		// Only a flow that comes back may have been redeemed.
		if !f.JustGranted() {
			if _, err := s.grants.Get(r.Context(), doc.ID); !errors.Is(err, grant.ErrDead) || s.codeExpired(f) {
				s.showError(w, r, ErrorPage{
					Status:  http.StatusGone,
					Title:   "You are signed in already",
					Message: "This sign-in is complete and the app has been told.",
					ToDo:    "Go back to the app. If it does not know you, start again there.",
				})
				return
			}
		}
		answer.Set("code", s.ring.Code(doc.ID))
		if slices.Contains(f.Request.Scopes, ScopeOpenID) {
			if state := s.newSessionState(f.Request.ClientID, f.Request.RedirectURI, f.SignIn.SessionID); state != "" {
				answer.Set("session_state", state)
			}
		}
	default:
		s.showError(w, r, internalPage(errNotOver))
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	if f.Request.ResponseMode == modeFormPost {
		s.formPost(w, r, f.Request.RedirectURI, answer)
		return
	}
	// 303, never 307: a redirect must not carry a form that the person posted here (RFC 9700 section 4.12).
	http.Redirect(w, r, withAnswer(f.Request.RedirectURI, f.Request.ResponseMode, answer), http.StatusSeeOther)
}

// unvouched is the client of a request whose redirect URI is not to be followed without the person's word; nil if it may be. Whoever
// can register an app can have it at the address of a phishing page, and a link to this server with a mistake in it would
// be a link to there (RFC 9700 section 4.11.2). It may be followed where an operator has checked the app; where the answer stays on the person's own
// machine; in a frame, where nobody takes what they see for ours, and no page of ours can be shown; and where the operator trusts them all.
func (s *Server) unvouched(r *http.Request, req *flow.Request) (*registry.Client, error) {
	if s.trustRedirectURIs || registry.Local(req.RedirectURI) || r.Header.Get("Sec-Fetch-Dest") == "iframe" {
		return nil, nil
	}
	client, err := s.clients.Get(r.Context(), req.ClientID)
	if err != nil || client.Verified() {
		return nil, err
	}
	return client, nil
}

// withAnswer adds the response to a redirect URI, whose own query stays as it was registered.
//
// A query response ends in an empty fragment: without one, a browser would carry a provider's
// own fragment (Facebook's "#_=_") on to the app.
func withAnswer(redirectURI, mode string, answer url.Values) string {
	if mode == modeFragment {
		return redirectURI + "#" + answer.Encode()
	}
	separator := "?"
	if strings.Contains(redirectURI, "?") {
		separator = "&"
	}
	return redirectURI + separator + answer.Encode() + "#"
}

// codeLifetime is how long the flow's code lives.
func (s *Server) codeLifetime(f *flow.Flow) time.Duration {
	if f.Request.CodeSeconds > 0 {
		return min(s.lifetimes.Code, time.Duration(f.Request.CodeSeconds)*time.Second)
	}
	return s.lifetimes.Code
}

func (s *Server) codeExpired(f *flow.Flow) bool {
	return !s.now().Before(f.CodeIssuedAt.Add(s.codeLifetime(f)))
}
