package signin

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/portico-id/portico/broker/registry"
)

// FuzzLogoutRequest: whatever a stranger's link says, what is read of it is what was said, once and within bounds; what is made
// of it for the app stays at the registered address, and our own page can send it again without it becoming another request.
func FuzzLogoutRequest(f *testing.F) {
	for _, seed := range []string{
		"", "id_token_hint=a.b.c&post_logout_redirect_uri=https%3A%2F%2Fapp.example.com%2Fbye&state=x", "state=a&state=b", "state=", "state",
		"%zz=1", "client_id=web&confirm=yes", "state=%0d%0aSet-Cookie:+a%3Db", "state=%22%3E%3Cscript%3E", "ui_locales=de+en&logout_hint=ann", "state=" + strings.Repeat("s", maxLogoutParam+1),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, query string) {
		form, _ := url.ParseQuery(query)
		params, err := parseLogout(form)
		if err != nil {
			if params != nil {
				t.Fatal("a refused request has parameters")
			}
			return
		}
		for name, values := range params {
			if !slices.Contains(logoutParams, name) || len(values) != 1 || values[0] == "" || len(values[0]) > maxLogoutParam || !slices.Equal(values, form[name]) {
				t.Fatalf("%q: %s is %q", query, name, values)
			}
		}
		again, err := url.ParseQuery(params.Encode())
		if err != nil {
			t.Fatal(err)
		}
		if same, err := parseLogout(again); err != nil || same.Encode() != params.Encode() {
			t.Fatalf("%q becomes %q, %v", query, same, err)
		}
		for _, registered := range []string{"https://app.example.com/bye", "https://app.example.com/bye?keep=1", "com.example.app:/bye"} {
			location := withQuery(registered, url.Values{"state": {params.Get("state")}})
			u, err := url.Parse(location)
			if err != nil || !strings.HasPrefix(location, registered) || u.Query().Get("state") != params.Get("state") || u.Fragment != "" || strings.ContainsAny(location, "\r\n\" ;") {
				t.Fatalf("%q leads to %q, %v", query, location, err)
			}
		}
	})
}

// A frame's policy must name what the page frames and nothing that a policy would read otherwise.
func TestFrameSourcesAreOrigins(t *testing.T) {
	frames := []string{"https://b.example/out?x=1", "https://a.example:8443/out", "https://b.example/other", "http://[::1]:8080/out", "https://c.example:443/out"}
	want := []string{"https://b.example", "https://a.example:8443", "http:", "https://c.example"}
	if got := frameSources(frames); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAFrontChannelURLHasSessionAndIssuerWhereTheAppAskedForThem(t *testing.T) {
	for name, test := range map[string]struct {
		client registry.Client
		want   string
	}{
		"not asked for": {registry.Client{FrontchannelLogoutURI: "https://a.example/out?x=1"}, "https://a.example/out?x=1"},
		"asked for":     {registry.Client{FrontchannelLogoutURI: "https://a.example/out", FrontchannelLogoutSession: true}, "https://a.example/out?iss=https%3A%2F%2Fop.example&sid=S"},
		"with a query":  {registry.Client{FrontchannelLogoutURI: "https://a.example/out?x=1", FrontchannelLogoutSession: true}, "https://a.example/out?x=1&iss=https%3A%2F%2Fop.example&sid=S"},
	} {
		if got := frontchannelURL(&test.client, "https://op.example", "S"); got != test.want {
			t.Errorf("%s: %s", name, got)
		}
	}
}
