package broker_test

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	. "github.com/portico-id/portico/broker/brokertest"
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
