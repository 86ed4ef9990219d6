package broker_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	. "github.com/portico-id/portico/broker/brokertest"
	"github.com/portico-id/portico/examples/sampleapp"
)

// A real browser holds the pages to what only a browser enforces: the Content-Security-Policy (Chromium applies form-action to the whole
// chain of redirects after a form), cookies' SameSite, fragments, and whether a person finds the button.

// browserTimeout bounds one walk in a browser that may be starting on a busy machine.
const browserTimeout = 3 * time.Minute

// stepTimeout bounds one step of it.
const stepTimeout = 30 * time.Second

// chromium starts a browser, with further options if need be, or skips the test where there is none.
func chromium(t *testing.T, more ...chromedp.ExecAllocatorOption) context.Context {
	t.Helper()
	path := os.Getenv("PORTICO_TEST_CHROMIUM")
	if path == "" {
		var err error
		if path, err = exec.LookPath("chromium"); err != nil {
			t.Skip("no browser: install Chromium (Debian: apt-get install chromium), or set PORTICO_TEST_CHROMIUM to its path; `make test` does")
		}
	}
	if testing.Short() {
		t.Skip("a browser takes seconds to start; left out with -short")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("no-first-run", true),
	)
	allocator, cancelAllocator := chromedp.NewExecAllocator(context.Background(), append(options, more...)...)
	t.Cleanup(cancelAllocator)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(cancel)
	ctx, cancelTimeout := context.WithTimeout(ctx, browserTimeout)
	t.Cleanup(cancelTimeout)
	// What the browser itself objects to, such as a broken policy, is a failure.
	err := chromedp.Listen(ctx, func(event any) {
		if e, ok := event.(*log.EventEntryAdded); ok && e.Entry.Source == log.EntrySourceSecurity {
			t.Errorf("the browser objects: %s (%s)", e.Entry.Text, e.Entry.URL)
		}
	})
	if err != nil {
		t.Fatalf("start the browser: %v", err)
	}
	if _, err := chromedp.Call(ctx, log.Enable, cdp.Empty{}); err != nil {
		t.Fatalf("start the browser: %v", err)
	}
	return ctx
}

// visit is a browser that a test drives.
type visit struct {
	t   *testing.T
	ctx context.Context
}

// do performs steps, and says where it stood if one fails.
func (v visit) do(what string, steps ...chromedp.Action[chromedp.Void]) {
	v.t.Helper()
	ctx, cancel := context.WithTimeout(v.ctx, stepTimeout)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		where, _ := chromedp.Run(v.ctx, chromedp.Location())
		body, _ := chromedp.Run(v.ctx, chromedp.Evaluate[string]("document.body.innerText"))
		v.t.Fatalf("%s, at %s: %v\n%s", what, where, err, body)
	}
}

// read is the text of an element.
func (v visit) read(selector string) string {
	v.t.Helper()
	text, err := chromedp.Run(v.ctx, chromedp.Evaluate[string]("document.querySelector('"+selector+"').innerText"))
	if err != nil {
		v.t.Fatal(err)
	}
	return text
}

// shoot takes screenshots of the page at phone and desktop width in both colour schemes, where
// PORTICO_TEST_SCREENSHOTS names a folder for them. The README's pictures are made so.
func (v visit) shoot(name string) {
	v.t.Helper()
	folder := os.Getenv("PORTICO_TEST_SCREENSHOTS")
	if folder == "" {
		return
	}
	if err := screenshots(v.ctx, filepath.Join(folder, name)); err != nil {
		v.t.Fatal(err)
	}
}

var (
	press     = chromedp.Click(`form button`, chromedp.NodeVisible) // the first form's first button
	atSandbox = chromedp.WaitVisible(`button[name="persona"]`)
	consent   = chromedp.WaitVisible(`button[value="allow"]`)
	linkPage  = chromedp.WaitVisible(`button[name="connector"]`)
)

// says waits for a page that says something, over navigations.
func says(text string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		for {
			body, err := chromedp.Evaluate[string]("document.body ? document.body.innerText : ''")(ctx, t)
			if err == nil && strings.Contains(body, text) {
				return nil
			}
			if _, err := chromedp.Sleep(50*time.Millisecond)(ctx, t); err != nil {
				return err // the step's time is up
			}
		}
	})
}

func TestAPersonSignsInWithEachProviderInARealBrowser(t *testing.T) {
	server, handle, e, client := serveApp(t, "/callback")
	app, err := sampleapp.New(sampleapp.Config{
		Issuer: e.Issuer, ClientID: client.ID, ClientSecret: client.Secret, URL: server.URL, Connectors: providers,
	})
	if err != nil {
		t.Fatal(err)
	}
	handle(app)
	for _, provider := range providers {
		t.Run(provider, func(t *testing.T) {
			v := visit{t, chromium(t)}
			shoot := func(name string) {
				if provider == "google" {
					v.shoot(name)
				}
			}
			v.do("open the app", chromedp.Navigate(server.URL+"/"))
			shoot("app")
			v.do("go to the broker", chromedp.Click("#login"), chromedp.WaitVisible(`button[value="`+provider+`"]`))
			shoot("chooser")
			v.do("choose", chromedp.Click(`button[value="`+provider+`"]`), atSandbox)
			shoot("sandbox")
			v.do("sign in", press)
			if provider == "github" {
				// ann's email at GitHub is verified, and the account that her Google made holds it.
				v.do("prove the account", linkPage, press, atSandbox, press)
			} else {
				v.do("the consent page", consent)
				shoot("consent")
				v.do("consent", press)
			}
			v.do("arrive", chromedp.WaitVisible("#name"))
			if name := v.read("#name"); name != "Ann Lee" {
				t.Errorf("signed in as %q", name)
			}
			// Facebook ends its answers in "#_=_", which browsers would carry on to the app.
			if location, _ := chromedp.Run(v.ctx, chromedp.Location()); strings.Contains(location, "#_") {
				t.Errorf("the provider's fragment came along: %s", location)
			}
			shoot("signed-in")
			v.do("refresh", chromedp.Click("#refresh"), says("Refreshed:"))
			v.do("sign out", chromedp.Click("#logout"), chromedp.WaitVisible("#login"))
		})
	}
}

// The pages that the walk above does not come by: link, error, sign-out.
func TestOtherPagesInARealBrowser(t *testing.T) {
	server, handle, e, client := serveApp(t, "/callback")
	app, err := sampleapp.New(sampleapp.Config{Issuer: e.Issuer, ClientID: client.ID, ClientSecret: client.Secret, URL: server.URL, Connectors: providers})
	if err != nil {
		t.Fatal(err)
	}
	handle(app)
	v := visit{t, chromium(t)}
	v.do("sign in with Google", chromedp.Navigate(server.URL+"/login?idp_hint=google"), atSandbox, press, consent, press, chromedp.WaitVisible("#name"))
	v.do("then with GitHub", chromedp.Navigate(server.URL+"/login?idp_hint=github"), atSandbox, press, linkPage)
	v.shoot("link")
	arm(t, e, "facebook", "server_error")
	v.do("a provider that fails", chromedp.Navigate(server.URL+"/login?idp_hint=facebook"), atSandbox, press, says("not answering"))
	v.shoot("error")
	v.do("sign out", chromedp.Navigate(e.Issuer+"/logout"), chromedp.WaitVisible(`form button`))
	v.shoot("sign-out")
	v.do("signed out", press, says("igned out"))
	v.shoot("signed-out")
	// form_post goes to the app by the page's one script, which the policy names by its hash.
	v.do("form_post", chromedp.Navigate(e.AuthorizeURL(client, "response_mode", "form_post", "idp_hint", "google", "scope", "openid profile email offline_access")), atSandbox, press,
		says("cross-origin request")) // the sample app takes its code by GET alone and says so; the form has arrived
}

// A person connects a device, through a slip, a cancelled start, a yes and a no. The code is typed as a phone types it; the policy must let the form
// lead to a provider, though no app's redirect URI is there to say so.
func TestAPersonConnectsADeviceInARealBrowser(t *testing.T) {
	e := Start(t, withDevices)
	const page, slip = "/device", "BBBB-BBBB"
	enter := func(code string) chromedp.Action[chromedp.Void] { return chromedp.SendKeys("#user_code", code+"\r") }
	d := startDevice(t, e, TV, "scope", "openid profile email offline_access")
	v := visit{t, chromium(t)}
	v.do("open the page", chromedp.Navigate(e.Issuer+page), chromedp.WaitVisible("#user_code"))
	// The browser moves the focus some frames after the field is there.
	if _, err := chromedp.Run(v.ctx, chromedp.Poll[bool](`document.activeElement.id === "user_code"`)); err != nil {
		t.Errorf("the focus does not come to the field: %v", err)
	}
	v.shoot("device")
	v.do("enter a wrong code", enter(slip), says("No device waits with this code"))
	v.shoot("device-wrong")
	v.do("follow the link", chromedp.Navigate(d.String("verification_uri_complete")), says("Check that this is the code"))
	v.shoot("device-link")
	v.do("go on", press, chromedp.WaitVisible(`button[value="google"]`))
	v.shoot("device-chooser")
	v.do("cancel", chromedp.Click(`form.quiet button`), says("The code still works"))
	v.shoot("device-cancelled")
	v.do("enter it again", chromedp.Click("a.button"), chromedp.WaitVisible("#user_code"),
		enter(strings.ToLower(strings.ReplaceAll(d.String("user_code"), "-", " "))), chromedp.WaitVisible(`button[value="google"]`))
	v.do("sign in", press, atSandbox, press, consent)
	v.shoot("device-confirm")
	v.do("allow", press, says("You are connected"))
	v.shoot("device-connected")
	if r := d.poll(); r.String("access_token") == "" {
		t.Errorf("the device gets %d %v", r.Status, r.Body)
	}
	d = startDevice(t, e, Box)
	v.do("another device", chromedp.Navigate(d.String("verification_uri_complete")), press, consent)
	v.do("deny", chromedp.Click(`button[value="deny"]`), says("You did not allow"))
	v.shoot("device-denied")
	d.want("access_denied")
	for range 11 {
		guess(e, NewBrowser(t), slip)
	}
	if _, err := chromedp.Call(v.ctx, network.ClearBrowserCookies, cdp.Empty{}); err != nil { // whoever is signed in is counted apart
		t.Fatal(err)
	}
	v.do("guess too often", chromedp.Navigate(e.Issuer+page), enter(slip), says("Too many wrong codes"))
	v.shoot("device-throttled")
}

// screenshots takes the page at phone and desktop width, in both colour schemes.
func screenshots(ctx context.Context, base string) error {
	for _, size := range []struct {
		name          string
		width, height int64
	}{{"phone", 390, 844}, {"desktop", 1280, 800}} {
		for _, scheme := range []string{"light", "dark"} {
			if _, err := chromedp.Call(ctx, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
				Width: size.width, Height: size.height, DeviceScaleFactor: 1, Mobile: size.name == "phone",
			}); err != nil {
				return err
			}
			if _, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
				// Without motion, or the picture shows a transition half way.
				Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}},
			}); err != nil {
				return err
			}
			png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
			if err != nil {
				return err
			}
			if err := os.WriteFile(fmt.Sprintf("%s-%s-%s.png", base, size.name, scheme), png, 0o600); err != nil {
				return err
			}
		}
	}
	_, err := chromedp.Call(ctx, emulation.ClearDeviceMetricsOverride, cdp.Empty{})
	return err
}
