package broker_test

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	. "github.com/portico-id/portico/broker/brokertest"
	"github.com/portico-id/portico/config"
	"github.com/portico-id/portico/examples/sampleapi"
	"github.com/portico-id/portico/examples/sampleapp"
)

// A person reads the api's own sentences and every field of what is asked in detail, in a real browser, before the button.
func TestAPersonReadsWhatIsAskedInDetailInARealBrowser(t *testing.T) {
	e := Start(t, withAPIs)
	v := visit{t: t, ctx: chromium(t)}
	details := `[{"type":"payment","amount":"12.00 EUR","creditor":{"name":"Bob's <b>Bikes</b>","iban":"DE02120300000000202051"},"actions":["start","cancel"]}]`
	target := e.AuthorizeURL(Web, "idp_hint", "google", "scope", "openid profile notes:read offline_access", "resource", notesAPI, "authorization_details", details)
	v.do("go to the provider", chromedp.Navigate(target), atSandbox, press)
	v.do("to the consent page", consent)
	v.shoot("consent-details")
	page := v.read("main")
	for _, want := range []string{"Read your <notes>", "(Notes)", "Make a payment from your account", "(Bank)", "12.00 EUR", "Bob's <b>Bikes</b>", "DE02120300000000202051", "start, cancel"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q:\n%s", want, page)
		}
	}
	if before, _, found := strings.Cut(page, "Do not allow"); !found || !strings.Contains(before, "12.00 EUR") {
		t.Error("the details are not above the button")
	}
}

// The sample app and the sample API, as `portico dev` puts them together: a person reads what the app may do at the API, and then writes a note there.
func TestAPersonWritesANoteInARealBrowser(t *testing.T) {
	listening, serveAPI := Listening(t)
	server, handle, e, client := serveApp(t, "/callback", withAPIs, func(c *config.Config) {
		c.APIs = append(c.APIs[1:], config.API{Identifier: listening.URL, Name: "Sample notes", AccessTokenFormat: "jwt", Scopes: []config.Scope{
			{Name: sampleapi.ScopeRead, Sentence: "Read your notes"}, {Name: sampleapi.ScopeWrite, Sentence: "Write notes for you"},
		}})
		c.Clients[len(c.Clients)-1].ResourceServerOf = []string{listening.URL}
	})
	api, err := sampleapi.New(sampleapi.Config{
		Issuer: e.Issuer, URL: listening.URL, ClientID: notesHost.ID, ClientSecret: notesHost.Secret, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	serveAPI(api)
	app, err := sampleapp.New(sampleapp.Config{Issuer: e.Issuer, ClientID: client.ID, ClientSecret: client.Secret, URL: server.URL, API: listening.URL})
	if err != nil {
		t.Fatal(err)
	}
	handle(app)
	v := visit{t: t, ctx: chromium(t)}
	v.do("to the consent page", chromedp.Navigate(server.URL+"/login?idp_hint=google"), atSandbox, press, consent)
	v.shoot("consent-notes")
	if page := v.read("main"); !strings.Contains(page, "Read your notes") || !strings.Contains(page, "Write notes for you") {
		t.Errorf("the page says\n%s", page)
	}
	v.do("allow", press, chromedp.WaitVisible("#text"))
	v.shoot("notes-empty")
	const plain, markup = "Water the plants", "Buy <b>milk</b> & bread"
	v.do("write", chromedp.SendKeys("#text", plain+"\r"), chromedp.WaitVisible("#notes"))
	v.shoot("notes")
	v.do("write another", chromedp.SendKeys("#text", markup+"\r"), says(markup))
	if got := v.read("#notes"); got != plain+"\n"+markup {
		t.Errorf("the notes are %q", got)
	}
	// A refreshed token is for the API too.
	v.do("refresh", chromedp.Click("#refresh"), says("Refreshed:"), chromedp.WaitVisible("#notes"))
}
