package resource

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

func extractFrom(method, target string, header http.Header, body string, allowQuery bool) (sent, *Error, *http.Request) {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	for name, values := range header {
		r.Header[name] = values
	}
	s, refusal := extract(r, &Options{AllowQuery: allowQuery})
	return s, refusal, r
}

// RFC 6750 section 2: the three ways, one of them at a time.
func TestWhereAnAccessTokenIsFound(t *testing.T) {
	auth := func(values ...string) http.Header { return http.Header{"Authorization": values} }
	form := http.Header{"Content-Type": {formType}}
	withForm := func(h http.Header) http.Header { h.Set("Content-Type", formType); return h }
	for name, c := range map[string]struct {
		method, target string
		header         http.Header
		body           string
		query          bool
		raw, scheme    string
		status         int // 0: no refusal
	}{
		"nothing":                                {"GET", "/", nil, "", false, "", bearer, 0},
		"bearer":                                 {"GET", "/", auth("Bearer t"), "", false, "t", bearer, 0},
		"in any case":                            {"GET", "/", auth("bEARER t"), "", false, "t", bearer, 0},
		"dpop":                                   {"GET", "/", auth("dpop t"), "", false, "t", "DPoP", 0},
		"with more spaces":                       {"GET", "/", auth("Bearer   t "), "", false, "t", bearer, 0},
		"a scheme that begins alike":             {"GET", "/", auth("Bearers t"), "", false, "", bearer, 0},
		"basic":                                  {"GET", "/", auth("Basic dDp0"), "", false, "", bearer, 0},
		"the scheme alone":                       {"GET", "/", auth("Bearer"), "", false, "", bearer, 0},
		"two headers":                            {"GET", "/", auth("Bearer t", "Bearer u"), "", false, "", bearer, 400},
		"a header of another scheme besides":     {"GET", "/", auth("Bearer t", "Basic dDp0"), "", false, "", bearer, 400},
		"form":                                   {"POST", "/", form, "a=1&access_token=t", false, "t", bearer, 0},
		"form, its name escaped":                 {"POST", "/", form, "access%5Ftoken=t", false, "t", bearer, 0},
		"form with a charset":                    {"PUT", "/", http.Header{"Content-Type": {formType + "; charset=UTF-8"}}, "access_token=t", false, "t", bearer, 0},
		"form twice":                             {"POST", "/", form, "access_token=t&access_token=t", false, "", bearer, 400},
		"form with an empty one":                 {"POST", "/", form, "access_token=&access_token=t", false, "t", bearer, 0},
		"form with GET means nothing":            {"GET", "/", form, "access_token=t", false, "", bearer, 0},
		"a body of another type":                 {"POST", "/", http.Header{"Content-Type": {"text/plain"}}, "access_token=t", false, "", bearer, 0},
		"form and header":                        {"POST", "/", withForm(auth("Bearer t")), "access_token=t", false, "", bearer, 400},
		"form and header of another scheme":      {"POST", "/", withForm(auth("Basic dDp0")), "access_token=t", false, "t", bearer, 0},
		"a form that cannot be read":             {"POST", "/", form, "a=%zz", false, "", bearer, 400},
		"one that cannot be read, with a header": {"POST", "/", withForm(auth("Bearer t")), "a=%zz", false, "t", bearer, 0},
		"a huge form":                            {"POST", "/", form, "access_token=t&a=" + strings.Repeat("x", maxFormBytes), false, "", bearer, 413},
		"a huge form, with a header":             {"POST", "/", withForm(auth("Bearer t")), "a=" + strings.Repeat("x", maxFormBytes), false, "t", bearer, 0},
		"query":                                  {"GET", "/?access_token=t", nil, "", true, "t", bearer, 0},
		"query twice":                            {"GET", "/?access_token=t&access_token=t", nil, "", true, "", bearer, 400},
		"query where it is not allowed":          {"GET", "/?access_token=t", nil, "", false, "", bearer, 0},
		"query and header":                       {"GET", "/?access_token=t", auth("Bearer t"), "", true, "", bearer, 400},
		"query and header, not allowed":          {"GET", "/?access_token=t", auth("Bearer t"), "", false, "", bearer, 400},
		"query and form":                         {"POST", "/?access_token=t", form, "access_token=t", true, "", bearer, 400},
	} {
		s, refusal, r := extractFrom(c.method, c.target, c.header, c.body, c.query)
		switch {
		case c.status != 0 && (refusal == nil || refusal.Status != c.status || refusal.Code != CodeInvalidRequest):
			t.Errorf("%s: %+v, %v; want status %d", name, s, refusal, c.status)
		case c.status == 0 && (refusal != nil || s.raw != c.raw || s.scheme != c.scheme):
			t.Errorf("%s: %+v, %v; want %s %q", name, s, refusal, c.scheme, c.raw)
		}
		if rest, err := io.ReadAll(r.Body); err != nil || string(rest) != c.body {
			t.Errorf("%s: the handler reads %d bytes of %d: %v", name, len(rest), len(c.body), err)
		}
	}
}

// What was read before by somebody else is where it is found too.
func TestAFormThatWasReadBefore(t *testing.T) {
	r := httptest.NewRequest("POST", "/?access_token=q", strings.NewReader("access_token=t&a=1"))
	r.Header.Set("Content-Type", formType)
	if err := r.ParseForm(); err != nil {
		t.Fatal(err)
	}
	if _, refusal := extract(r, &Options{AllowQuery: true}); refusal == nil || refusal.Status != http.StatusBadRequest {
		t.Errorf("two tokens: %v", refusal)
	}
	if r.Form.Has(parameter) {
		t.Error("r.Form keeps the token of the query")
	}
}

// Section 2.3: an address is printed in many places. However the parameter is spelled, none of them sees the token; what else is there stays as it was.
func TestTheTokenIsTakenOutOfTheAddress(t *testing.T) {
	for target, want := range map[string]string{
		"/a?access_token=secret":                                   "/a",
		"/a?x=%41&access_token=secret&y=+&x":                       "/a?x=%41&y=+&x",
		"/a?access%5ftoken=secret&b=1":                             "/a?b=1",
		"/a?access_token=secret&access_token=secret":               "/a",
		"/a?access_token&b":                                        "/a?b",
		"/a?my_access_token=mine":                                  "/a?my_access_token=mine",
		"/a?b=access_token%3Dx":                                    "/a?b=access_token%3Dx",
		"http://h.example/a?access_token=secret&%61ccess_token=s2": "http://h.example/a",
	} {
		for name, header := range map[string]http.Header{
			"alone": nil, "with another": {"Authorization": {"Bearer t"}}, "with two others": {"Authorization": {"Bearer t", "Bearer u"}},
		} {
			for _, allowed := range []bool{true, false} {
				_, _, r := extractFrom("GET", target, header, "", allowed)
				if r.URL.String() != want || r.RequestURI != want {
					t.Errorf("%s, %s, becomes %s, and in RequestURI %s", target, name, r.URL, r.RequestURI)
				}
			}
		}
	}
}

// The same where its length is not said before, or somebody around bounds it: no more of it is kept than may be.
func TestALongFormOfUnknownLength(t *testing.T) {
	for name, c := range map[string]struct {
		bounded bool
		header  string
		status  int
	}{
		"alone":                  {false, "", 413},
		"with a header":          {false, "Bearer t", 0},
		"bounded":                {true, "", 413},
		"bounded, with a header": {true, "Bearer t", 0},
	} {
		body := "access_token=t&a=" + strings.Repeat("x", 2*maxFormBytes)
		r := httptest.NewRequest("POST", "/", io.MultiReader(strings.NewReader(body)))
		if c.bounded {
			r.Body = http.MaxBytesReader(httptest.NewRecorder(), r.Body, 1000)
		}
		r.Header.Set("Content-Type", formType)
		r.Header.Set("Authorization", c.header)
		s, refusal := extract(r, &Options{})
		if (c.status == 0) != (refusal == nil) || refusal != nil && refusal.Status != c.status || refusal == nil && s.raw != "t" {
			t.Errorf("%s: %+v, %v", name, s, refusal)
		}
		rest, err := io.ReadAll(r.Body)
		if (err != nil) != c.bounded || !c.bounded && string(rest) != body {
			t.Errorf("%s: the handler reads %d bytes: %v", name, len(rest), err)
		}
	}
}

// A body that breaks off is no token, and its error is the handler's to see.
func TestABodyThatBreaksOff(t *testing.T) {
	broke := errors.New("broke off")
	for _, header := range []string{"", "Bearer t"} {
		r := httptest.NewRequest("POST", "/", io.MultiReader(strings.NewReader("access_token=t"), broken{broke}))
		r.Header.Set("Content-Type", formType)
		r.Header.Set("Authorization", header)
		s, refusal := extract(r, &Options{})
		if (refusal == nil) != (header != "") || header != "" && s.raw != "t" {
			t.Errorf("with %q: %+v, %v", header, s, refusal)
		}
		if _, err := io.ReadAll(r.Body); !errors.Is(err, broke) {
			t.Errorf("the handler sees %v", err)
		}
	}
}

// Whatever comes: nothing panics, the body can be read as it was sent, no address keeps a token, and a token is one that was sent, once.
func FuzzExtract(f *testing.F) {
	f.Add("POST", "a=1&access_token=q", "Bearer h", formType, "access_token=f", true)
	f.Add("GET", "access%5Ftoken=q;x&&=", "DPoP  ", "", "", false)
	f.Add("POST", "a=1&access_token=q", "Basic h", formType, "a=%0X", true)
	f.Add("PUT", "%zz=%", "bearer a b, Bearer c", formType+";x", "%&=;access_token", true)
	f.Fuzz(func(t *testing.T, method, query, authorization, contentType, body string, allow bool) {
		r := &http.Request{
			Method: method, URL: &url.URL{Path: "/", RawQuery: query}, RequestURI: "/?" + query,
			Header: http.Header{"Authorization": {authorization}, "Content-Type": {contentType}}, Body: io.NopCloser(strings.NewReader(body)),
		}
		s, refusal := extract(r, &Options{AllowQuery: allow})
		if rest, err := io.ReadAll(r.Body); err != nil || string(rest) != body {
			t.Fatalf("the body is %q, was %q: %v", rest, body, err)
		}
		if r.URL.Query().Has(parameter) {
			t.Fatalf("%q keeps a token", r.URL.RawQuery)
		}
		if _, left, _ := strings.Cut(r.RequestURI, "?"); left != r.URL.RawQuery {
			t.Fatalf("RequestURI has %q, the URL %q", left, r.URL.RawQuery)
		}
		if refusal != nil && refusal.Status != http.StatusBadRequest && refusal.Status != http.StatusRequestEntityTooLarge {
			t.Fatalf("refused with %+v", refusal)
		}
		if s.inQuery && !allow {
			t.Fatal("a token of the query is taken that is not allowed")
		}
		spelled(s.raw)
	})
}
