package broker_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	. "github.com/portico-id/portico/broker/brokertest"
	"github.com/portico-id/portico/config"
)

// What a person meets who comes by an app that nobody has checked: what it is, where it would have them go on, and a button that a real browser's policy
// lets them press, be it a link or a form.
func TestAPersonGoesOnToAnAppThatNobodyCheckedInARealBrowser(t *testing.T) {
	// The app is at another site, with https: on the person's own machine it would be another kind of app.
	site := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		_, _ = w.Write([]byte("The app is told: " + r.Method + " " + r.FormValue("error") + " " + r.FormValue("state")))
	}))
	defer site.Close()
	e := Start(t, openRegistration, withAPIs, func(c *config.Config) { c.APIs[0].SelfRegistered = true })
	app := register(t, e, webApp.with(
		"post_logout_redirect_uris", []string{"https://notes.example/bye"}, "policy_uri", "https://notes.example/privacy", "tos_uri", "https://notes.example/terms",
		"scope", "openid profile email offline_access notes:read")).Client
	local := register(t, e, webApp.with("client_name", "Notes for the desk", "redirect_uris", []string{"http://127.0.0.1/cb"}, "token_endpoint_auth_method", "none")).Client
	v := visit{t, chromium(t, chromedp.IgnoreCertErrors, chromedp.Flag("host-resolver-rules", "MAP notes.example "+site.Listener.Addr().String()))}

	v.do("come with a mistake", chromedp.Navigate(e.AuthorizeURL(app, "scope", "nonsense")), says("Nothing was shared"))
	v.do("go on by a link", chromedp.Click("a.button"), says("The app is told: GET invalid_scope st-1"))
	v.do("come with a mistake, in a form", chromedp.Navigate(e.AuthorizeURL(app, "scope", "nonsense", "response_mode", "form_post")), says("Nothing was shared"))
	v.shoot("leave-form")
	v.do("go on by a form", press, says("The app is told: POST invalid_scope st-1"))

	v.do("sign in", chromedp.Navigate(e.AuthorizeURL(app, "idp_hint", "google", "scope", "openid profile email offline_access notes:read", "resource", notesAPI)), atSandbox, press, consent)
	v.shoot("consent-unchecked")
	page := v.read("main")
	for _, want := range []string{"Nobody at", "notes.example", "Read your <notes>"} {
		if before, _, found := strings.Cut(page, "Do not allow"); !found || !strings.Contains(before, want) {
			t.Errorf("%q is not above the button:\n%s", want, page)
		}
	}
	v.do("do not allow it", chromedp.Click(`button[value="deny"]`), says("Nothing was shared"))
	v.shoot("leave")
	v.do("go on all the same", chromedp.Click("a.button"), says("The app is told: GET access_denied st-1"))

	v.do("an app on this machine", chromedp.Navigate(e.AuthorizeURL(local, "idp_hint", "google")), consent)
	v.shoot("consent-local")

	bye := url.Values{"client_id": {app.ID}, "post_logout_redirect_uri": {"https://notes.example/bye"}, "state": {"so long"}}
	v.do("sign out", chromedp.Navigate(e.Issuer+"/logout?"+bye.Encode()), chromedp.WaitVisible("form button"), press, says("You are signed out"))
	v.shoot("signed-out-unchecked")
	v.do("go on", chromedp.Click("a.button"), says("The app is told: GET  so long"))
}
