package templates

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"
)

// hostile is a name that a client may have registered or a provider may have sent.
const hostile = `"'><script>alert(1)</script><img src=x onerror=alert(1)>`

func newPages(t *testing.T) *Pages {
	t.Helper()
	p, err := New(Options{Brand: Brand{SupportURL: "mailto:help@id.example"}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// everyPage renders each page in its fullest form, with name wherever a text of somebody else's goes and link wherever a URL
// of theirs does.
func everyPage(t *testing.T, name, link string) map[string]string {
	t.Helper()
	p := newPages(t)
	app := App{Name: name, Website: link, LogoURL: link, Unverified: true}
	account := AccountView{Name: name, Email: name, Picture: link}
	buttons := []Button{
		{Name: "google", Type: "google", DisplayName: "Google"},
		{Name: "facebook", Type: "facebook", DisplayName: "Facebook"},
		{Name: "github", Type: "github", DisplayName: "GitHub"},
		{Name: "corp", Type: "oidc", DisplayName: name},
	}
	pages := map[string]string{}
	render := func(kind string, f func(*bytes.Buffer) error) {
		var b bytes.Buffer
		if err := f(&b); err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		pages[kind] = b.String()
	}
	render("chooser", func(b *bytes.Buffer) error {
		return p.Chooser(b, ChooserPage{
			App: app, ChooseAction: "/signin/f/choose", CancelAction: "/signin/f/cancel", Connectors: buttons, LoginHint: "ann@example.com", Notice: name,
		})
	})
	render("chooser, signed in", func(b *bytes.Buffer) error {
		return p.Chooser(b, ChooserPage{App: app, ChooseAction: "/signin/f/choose", CancelAction: "/signin/f/cancel", Connectors: buttons, SignedInAs: name})
	})
	render("consent", func(b *bytes.Buffer) error {
		return p.Consent(b, ConsentPage{
			App: app, Action: "/signin/f/consent", SwitchAction: "/signin/f/switch", Account: account,
			Scopes: []ScopeView{{Name: "openid", Sentence: name, New: true}, {Name: name}}, OfflineAccess: true,
			GoesTo: name, PolicyURL: link, TermsURL: link,
		})
	})
	render("link", func(b *bytes.Buffer) error {
		return p.Link(b, LinkPage{
			App: app, Email: name, NewConnector: name, ProveAction: "/signin/f/link", Connectors: buttons, SeparateAction: "/signin/f/separate", Notice: name,
		})
	})
	render("link, nothing to prove with", func(b *bytes.Buffer) error {
		return p.Link(b, LinkPage{App: app, Email: name, NewConnector: name, ProveAction: "/signin/f/link", SeparateAction: "/signin/f/separate"})
	})
	render("error", func(b *bytes.Buffer) error {
		return p.Error(b, ErrorPage{
			Status: 502, Title: "It broke " + name, Message: name, WhatToDo: name, Reference: "REF123", App: app,
			ReturnAction: "/signin/f/return", AgainAction: "/signin/f/again", HomeURL: link,
		})
	})
	render("error, no way on", func(b *bytes.Buffer) error {
		return p.Error(b, ErrorPage{Title: "It broke", App: app, HomeURL: link})
	})
	render("sign out", func(b *bytes.Buffer) error {
		return p.SignOut(b, SignOutPage{App: app, Action: "/logout", Account: account, Hidden: []Field{{Name: "confirm", Value: "yes"}, {Name: name, Value: name}}})
	})
	render("signed out", func(b *bytes.Buffer) error { return p.SignedOut(b, SignedOutPage{App: app, ReturnURL: link}) })
	render("signed out, going on", func(b *bytes.Buffer) error {
		return p.SignedOut(b, SignedOutPage{App: app, ReturnURL: link, ContinueURL: link, Frames: []string{link}})
	})
	render("signed out, by an app that nobody checked", func(b *bytes.Buffer) error {
		return p.SignedOut(b, SignedOutPage{App: app, ReturnURL: link, ContinueURL: link, GoesTo: name})
	})
	render("form_post", func(b *bytes.Buffer) error {
		return p.FormPost(b, FormPostPage{App: app, Action: "https://app.example/cb", Fields: []Field{{Name: "code", Value: "abc"}, {Name: "state", Value: name}}})
	})
	render("leave", func(b *bytes.Buffer) error {
		return p.Leave(b, LeavePage{App: app, Code: name, GoesTo: name, URL: link})
	})
	render("leave by a form", func(b *bytes.Buffer) error {
		return p.Leave(b, LeavePage{App: app, Code: "access_denied", GoesTo: name, URL: "https://app.example/cb", Fields: []Field{{Name: "state", Value: name}}})
	})
	render("device", func(b *bytes.Buffer) error {
		return p.Device(b, DevicePage{Action: "/device", UserCode: name, Notice: name})
	})
	render("device confirm", func(b *bytes.Buffer) error {
		return p.DeviceConfirm(b, DeviceConfirmPage{
			App: app, UserCode: name, Action: "/signin/f/consent", SwitchAction: "/signin/f/switch", Account: account,
			Scopes:  []ScopeView{{Name: "offline_access", Sentence: "Keep this access"}, {Name: "openid", Sentence: name}, {Name: name}},
			Address: name, Age: 5 * time.Minute, UserAgent: name,
		})
	})
	for _, outcome := range []DeviceOutcome{DeviceConnected, DeviceDenied, ""} {
		render("device done: "+string(outcome), func(b *bytes.Buffer) error {
			return p.DeviceDone(b, DeviceDonePage{App: app, Outcome: outcome, Reason: name, AgainURL: link})
		})
	}
	render("home", func(b *bytes.Buffer) error {
		return p.Home(b, HomePage{Issuer: name, Links: []HomeLink{{Text: name, URL: link, Sentence: name}}})
	})
	return pages
}

// In every page with a form, the first button of the first form is the main way on: people press Enter, and so
// do clients that walk through.
func TestTheFirstButtonOfTheFirstFormIsTheMainWayOn(t *testing.T) {
	pages := everyPage(t, "Ann", "https://app.example")
	for kind, want := range map[string]struct{ action, name, value, text string }{
		"chooser":                     {"/signin/f/choose", "connector", "google", "Continue with Google"},
		"chooser, signed in":          {"/signin/f/choose", "continue", "session", "Continue as Ann"},
		"consent":                     {"/signin/f/consent", "decision", "allow", "Allow"},
		"link":                        {"/signin/f/link", "connector", "google", "Continue with Google"},
		"link, nothing to prove with": {"/signin/f/separate", "", "", "Continue separately"},
		"error":                       {"/signin/f/return", "", "", "Return to Ann"},
		"sign out":                    {"/logout", "", "", "Sign out"},
		"device":                      {"/device", "", "", "Continue"},
		"device confirm":              {"/signin/f/consent", "decision", "allow", "Allow"},
		"form_post":                   {"https://app.example/cb", "", "", "Continue to Ann"},
		"leave by a form":             {"https://app.example/cb", "", "", "Go on to Ann"},
	} {
		form := first(parse(t, pages[kind]), "form")
		if form == nil {
			t.Errorf("%s has no form", kind)
			continue
		}
		button := first(form, "button")
		if attr(form, "action") != want.action || attr(form, "method") != "post" ||
			attr(button, "name") != want.name || attr(button, "value") != want.value || words(button) != want.text {
			t.Errorf("%s: %s %s leads on with button %s=%s %q, want %+v", kind,
				attr(form, "method"), attr(form, "action"), attr(button, "name"), attr(button, "value"), words(button), want)
		}
	}
}

// The second form is the other way: back to the app, another account, apart from the existing account, another try.
func TestTheSecondFormIsTheOtherWay(t *testing.T) {
	pages := everyPage(t, "Ann", "https://app.example")
	for kind, want := range map[string]struct{ action, text string }{
		"chooser": {"/signin/f/cancel", "Back to Ann"},
		"consent": {"/signin/f/switch", "Use another account"},
		"link":    {"/signin/f/separate", "Continue separately"},
		"error":   {"/signin/f/again", "Try again another way"},

		"device confirm": {"/signin/f/switch", "Use another account"},
	} {
		forms := all(parse(t, pages[kind]), "form")
		if len(forms) != 2 {
			t.Errorf("%s has %d forms, want 2", kind, len(forms))
			continue
		}
		if action, text := attr(forms[1], "action"), words(first(forms[1], "button")); action != want.action || text != want.text {
			t.Errorf("%s: the second form is %q to %s, want %+v", kind, text, action, want)
		}
	}
}

func TestConsentOffersAllowThenDeny(t *testing.T) {
	var values []string
	for _, kind := range []string{"consent", "device confirm"} {
		values = nil
		for _, b := range all(first(parse(t, everyPage(t, "Ann", "")[kind]), "form"), "button") {
			values = append(values, attr(b, "name")+"="+attr(b, "value"))
		}
		if got := strings.Join(values, " "); got != "decision=allow decision=deny" {
			t.Errorf("the buttons of %s are %s", kind, got)
		}
	}
}

// Structure that a screen reader, a phone and a search engine go by.
func TestEveryPageHasTitleHeadingLanguageAndMain(t *testing.T) {
	for kind, page := range everyPage(t, "Ann", "https://app.example") {
		root := parse(t, page)
		if !strings.HasPrefix(page, "<!DOCTYPE html>") {
			t.Errorf("%s: no doctype", kind)
		}
		if attr(first(root, "html"), "lang") != "en" {
			t.Errorf("%s: no lang", kind)
		}
		if title := words(first(root, "title")); title == "" || !strings.HasSuffix(title, "· Portico") {
			t.Errorf("%s: title %q", kind, title)
		}
		if n := len(all(root, "h1")); n != 1 {
			t.Errorf("%s: %d h1", kind, n)
		}
		if h1 := first(first(root, "main"), "h1"); h1 == nil || words(h1) == "" {
			t.Errorf("%s: no words in the h1 of main", kind)
		}
		for _, part := range []string{"header", "main", "footer"} {
			if n := len(all(root, part)); n != 1 {
				t.Errorf("%s: %d %s", kind, n, part)
			}
		}
		if len(all(root, "h3")) > 0 {
			t.Errorf("%s: a heading level is skipped", kind)
		}
		for _, img := range all(root, "img") {
			if !hasAttr(img, "alt") || attr(img, "referrerpolicy") != "no-referrer" && strings.HasPrefix(attr(img, "src"), "https:") {
				t.Errorf("%s: an image without alt or with a referrer", kind)
			}
		}
		meta := map[string]string{}
		for _, m := range all(root, "meta") {
			meta[attr(m, "name")] = attr(m, "content")
		}
		for name, want := range map[string]string{
			"viewport": "width=device-width, initial-scale=1", "referrer": "no-referrer", "robots": "noindex, nofollow", "color-scheme": "light dark",
		} {
			if meta[name] != want {
				t.Errorf("%s: meta %s is %q", kind, name, meta[name])
			}
		}
	}
}

// The pages' Content-Security-Policy forbids these; a page that had them would look or work wrong.
func TestNoPageHasInlineStyleScriptOrHandlers(t *testing.T) {
	for _, name := range []string{"Ann", hostile} {
		for kind, page := range everyPage(t, name, "https://app.example") {
			root := parse(t, page)
			scripts, frames := len(all(root, "script")), len(all(root, "iframe"))
			switch kind {
			case "form_post":
				scripts--
			case "signed out, going on": // the apps' own pages, out of sight
				frames--
			}
			if scripts != 0 || frames != 0 || len(all(root, "style")) != 0 || len(all(root, "base")) != 0 {
				t.Errorf("%s has a script, style, base or iframe:\n%s", kind, page)
			}
			walk(root, func(n *html.Node) {
				for _, a := range n.Attr {
					if a.Key == "style" || strings.HasPrefix(a.Key, "on") {
						t.Errorf("%s: <%s %s=%q>", kind, n.Data, a.Key, a.Val)
					}
				}
			})
		}
	}
}

// A name with markup in it is shown as it is, and makes no elements and no attributes.
func TestHostileNamesAreText(t *testing.T) {
	tame := everyPage(t, "Ann", "https://app.example")
	for kind, page := range everyPage(t, hostile, "https://app.example") {
		root := parse(t, page)
		if got, want := count(root), count(parse(t, tame[kind])); got != want {
			t.Errorf("%s: a hostile name made %d elements of %d:\n%s", kind, got, want, page)
		}
		if strings.Contains(page, "<script>alert") || strings.Contains(page, "<img src=x") {
			t.Errorf("%s: markup is not escaped", kind)
		}
		if kind != "error, no way on" && !strings.Contains(words(root), hostile) {
			t.Errorf("%s does not show the name as it is:\n%s", kind, words(root))
		}
	}
}

// URLs of others' making are links only where they are http or https, and pictures only where they are https.
func TestURLsThatAreNotOfTheWebAreDropped(t *testing.T) {
	for _, link := range []string{
		"javascript:alert(1)", "JaVaScRiPt://app.example/%0aalert(1)", "data:text/html,<script>alert(1)</script>", "//evil.example/x",
		`/\evil.example`, "vbscript:x", "https://user:password@app.example", "https:", "\x01javascript:alert(1)", "app.example", "mailto:ann@example.com",
	} {
		for kind, page := range everyPage(t, "Ann", link) {
			walk(first(parse(t, page), "main"), func(n *html.Node) {
				for _, key := range []string{"href", "src"} {
					if v := attr(n, key); hasAttr(n, key) && v != "/" {
						t.Errorf("%s made <%s %s=%q> of %q", kind, n.Data, key, v, link)
					}
				}
			})
		}
	}
	for kind, page := range everyPage(t, "Ann", "http://app.example") {
		if imgs := all(parse(t, page), "img"); len(imgs) != 0 {
			t.Errorf("%s shows a picture over http", kind)
		}
	}
}

// The host is what tells the app from one with its name; lookalike letters and user information must not pass for it.
// Where people go on after they signed out is an app's word: a native app's own scheme is a link, what runs or reads in the browser is none. The
// same holds for what the page loads in frames, which must not be able to take the person elsewhere.
func TestSignedOutGoesOnToAppsAlone(t *testing.T) {
	p := newPages(t)
	for target, want := range map[string]bool{
		"https://app.example/bye?state=a%26b": true, "http://127.0.0.1:3000/bye": true, "com.example.app:/bye?state=1": true,
		"javascript:alert(1)": false, "data:text/html,x": false, "//evil.example/": false, "/logout": false, "": false, "com.example.app://host/bye": false,
	} {
		var b bytes.Buffer
		if err := p.SignedOut(&b, SignedOutPage{ContinueURL: target, Frames: []string{target}}); err != nil {
			t.Fatal(err)
		}
		page := parse(t, b.String())
		linked := false
		for _, a := range all(page, "a") {
			linked = linked || attr(a, "href") == target
		}
		if linked != want {
			t.Errorf("%q: linked %v, want %v", target, linked, want)
		}
		for _, frame := range all(page, "iframe") {
			if !strings.HasPrefix(attr(frame, "src"), "http") || !hasAttr(frame, "hidden") || attr(frame, "sandbox") != "allow-scripts allow-same-origin" {
				t.Errorf("%q: a frame of %q, sandbox %q", target, attr(frame, "src"), attr(frame, "sandbox"))
			}
		}
	}
}

func TestTheAppsHostIsShown(t *testing.T) {
	for website, want := range map[string]string{
		"https://Notes.Acme.example/welcome?x=1":  "notes.acme.example",
		"http://localhost:8080/":                  "localhost:8080",
		"https://xn--cme-8cd.example":             "xn--cme-8cd.example",
		"https://аcme.example":                    "",
		"https://acme.example@evil.example/":      "",
		"https://acme.example\u202eelpmaxe.live/": "",
		"javascript:alert(1)":                     "",
		"":                                        "",
	} {
		if got := webHost(website); got != want {
			t.Errorf("the host of %q is shown as %q, want %q", website, got, want)
		}
	}
	for _, kind := range []string{"chooser", "consent", "device confirm"} {
		if !strings.Contains(words(parse(t, everyPage(t, "Ann", "https://notes.acme.example/x")[kind])), "notes.acme.example") {
			t.Errorf("%s does not show the app's host", kind)
		}
	}
}

// Names may be in any script and direction; isolated, they do not turn the sentence around them.
func TestNamesAreIsolated(t *testing.T) {
	const name = "شركة\u202e"
	for kind, page := range everyPage(t, name, "https://app.example") {
		root := parse(t, page)
		if strings.Contains(words(first(root, "title")), "\u202e") {
			t.Errorf("%s: the title turns around", kind)
		}
		for _, tag := range []string{"h1", "button"} {
			for _, n := range all(root, tag) {
				walk(n, func(c *html.Node) {
					if c.Type == html.TextNode && strings.Contains(c.Data, name) && c.Parent.Data != "bdi" && kind != "error" {
						t.Errorf("%s: a name in %s is not in bdi", kind, tag)
					}
				})
			}
		}
	}
}

// A login hint comes from whoever made the link: it may name an account and say nothing else.
func TestOnlyAnAddressIsShownAsHint(t *testing.T) {
	for hint, want := range map[string]string{
		"ann@example.com": "ann@example.com",
		"अनु@उदाहरण.भारत": "अनु@उदाहरण.भारत",
		"1102":                                "",
		"call +1 555 0100 @ once":             "",
		"@example.com":                        "",
		"ann@":                                "",
		"ann\u202e@example.com":               "",
		"ann@example.com\nyou have won":       "",
		strings.Repeat("a", maxHint) + "@b.c": "",
	} {
		if got := shownHint(hint); got != want {
			t.Errorf("the hint %q is shown as %q, want %q", hint, got, want)
		}
	}
}

// offline_access reads the same and comes last, however the caller says it.
func TestOfflineAccessIsToldOnceAndLast(t *testing.T) {
	p := newPages(t)
	for name, page := range map[string]ConsentPage{
		"as a scope": {Scopes: []ScopeView{{Name: "offline_access", Sentence: "Keep this access while you are away"}, {Name: "openid", Sentence: "Know who you are"}}},
		"as a flag":  {Scopes: []ScopeView{{Name: "openid", Sentence: "Know who you are"}}, OfflineAccess: true},
		"as both":    {Scopes: []ScopeView{{Name: "openid", Sentence: "Know who you are"}, {Name: "offline_access"}}, OfflineAccess: true},
	} {
		var b bytes.Buffer
		if err := p.Consent(&b, page); err != nil {
			t.Fatal(err)
		}
		items := all(parse(t, b.String()), "li")
		if len(items) != 2 || words(items[0]) != "Know who you are" || words(items[1]) != "Keep this access while you are away" {
			t.Errorf("%s: %s", name, b.String())
		}
	}
}

// What a person needs to notice that somebody else is at the other end: the code to compare, where the request came from, and that
// nobody sends codes (RFC 8628 section 5.4).
func TestTheDevicesConfirmationTellsWhatGivesAPhisherAway(t *testing.T) {
	p := newPages(t)
	for same, want := range map[bool]string{true: "the network that you use now", false: "another network than you use now"} {
		var b bytes.Buffer
		if err := p.DeviceConfirm(&b, DeviceConfirmPage{
			App: App{Name: "Acme TV"}, UserCode: "WDJB-MJHT", Action: "/a", Address: "192.0.2.1", SameNetwork: same, Age: 130 * time.Second, UserAgent: "AcmeTV/3.2",
		}); err != nil {
			t.Fatal(err)
		}
		text := words(first(parse(t, b.String()), "main"))
		for _, part := range []string{"Acme TV", "WDJB-MJHT", want + " (192.0.2.1)", "2 minutes ago", "AcmeTV/3.2", "a device in front of you", "Nobody from us will ever send you a code"} {
			if !strings.Contains(text, part) {
				t.Errorf("%q is not said in: %s", part, text)
			}
		}
	}
	for d, want := range map[time.Duration]string{-time.Second: "less than a minute ago", 59 * time.Second: "less than a minute ago", 119 * time.Second: "a minute ago", 2 * time.Minute: "2 minutes ago"} {
		if got := ago(d); got != want {
			t.Errorf("%s is said as %q", d, got)
		}
	}
}

// The reference is what support asks for: it stands by itself, so that a double click selects it and nothing else.
func TestAnErrorShowsItsReference(t *testing.T) {
	page := everyPage(t, "Ann", "")["error"]
	if code := first(parse(t, page), "code"); code == nil || words(code) != "REF123" || !strings.Contains(words(parse(t, page)), "Reference: REF123 (502)") {
		t.Errorf("no reference:\n%s", page)
	}
}

// An error in a page without ways on leads to the app's own website, or else home.
func TestAnErrorWithoutFormsLinksOn(t *testing.T) {
	p := newPages(t)
	for want, page := range map[string]ErrorPage{
		"https://app.example": {Title: "Broken", App: App{Name: "Ann", Website: "https://app.example"}, HomeURL: "/"},
		"/":                   {Title: "Broken", HomeURL: "/"},
	} {
		var b bytes.Buffer
		if err := p.Error(&b, page); err != nil {
			t.Fatal(err)
		}
		if a := first(first(parse(t, b.String()), "main"), "a"); a == nil || attr(a, "href") != want {
			t.Errorf("no link to %s:\n%s", want, b.String())
		}
	}
}

// Staying signed in must not post the form, which carries the confirmation.
func TestStayingSignedInIsALink(t *testing.T) {
	root := parse(t, everyPage(t, "Ann", "https://app.example")["sign out"])
	if n := len(all(root, "button")); n != 1 {
		t.Errorf("%d buttons", n)
	}
	if a := first(first(root, "main"), "a"); attr(a, "href") != "https://app.example" || words(a) != "Stay signed in" {
		t.Errorf("the link is %q to %s", words(a), attr(a, "href"))
	}
	if inputs := all(first(root, "form"), "input"); len(inputs) != 2 || attr(inputs[0], "type") != "hidden" || attr(inputs[0], "value") != "yes" {
		t.Error("the hidden fields are missing")
	}
}

// A policy with another hash would leave people at the button; a script that changed would not run.
func TestFormPostScriptHashIsThatOfItsScript(t *testing.T) {
	script := first(parse(t, everyPage(t, hostile, "https://app.example")["form_post"]), "script")
	sum := sha256.Sum256([]byte(script.FirstChild.Data))
	if want := "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"; FormPostScriptHash != want {
		t.Errorf("FormPostScriptHash is %s, want %s", FormPostScriptHash, want)
	}
}

// The response must arrive as it was made, at the URI as it was registered.
func TestFormPostCarriesTheResponseUnchanged(t *testing.T) {
	p := newPages(t)
	for _, action := range []string{"https://app.example/cb?tenant=a&b=%2Fc", "http://[::1]:8080/cb", "http://localhost:3000/cb"} {
		fields := []Field{{Name: "code", Value: "a.b-c_d"}, {Name: "state", Value: hostile + " \n&amp;+ü"}, {Name: "submit", Value: "x"}}
		var b bytes.Buffer
		if err := p.FormPost(&b, FormPostPage{Action: action, Fields: fields}); err != nil {
			t.Fatal(err)
		}
		form := first(parse(t, b.String()), "form")
		if attr(form, "action") != action {
			t.Errorf("the form goes to %q, want %q", attr(form, "action"), action)
		}
		var got []Field
		for _, input := range all(form, "input") {
			got = append(got, Field{Name: attr(input, "name"), Value: attr(input, "value")})
		}
		if len(got) != len(fields) {
			t.Fatalf("%d fields", len(got))
		}
		for i := range got {
			if got[i] != fields[i] {
				t.Errorf("field %q, want %q", got[i], fields[i])
			}
		}
		if hasAttr(first(form, "button"), "name") {
			t.Error("the button adds a field to the response")
		}
	}
}

func TestFormPostRefusesWhatNoFormCanBePostedTo(t *testing.T) {
	p := newPages(t)
	for _, action := range []string{"javascript:alert(1)", "com.example.app:/cb", "/relative", ""} {
		var b bytes.Buffer
		if err := p.FormPost(&b, FormPostPage{Action: action}); err == nil || b.Len() != 0 {
			t.Errorf("%q: error %v, and %d bytes of a page", action, err, b.Len())
		}
	}
}

// A brand's URL is the operator's typing: a wrong one is told at start rather than left out.
func TestABrandsWrongURLIsRefused(t *testing.T) {
	for _, b := range []Brand{
		{LogoURL: "javascript:alert(1)"},
		{LogoURL: "http://id.example/logo.svg"},
		{LogoURL: "data:text/html,x"},
		{SupportURL: "help@id.example"},
		{PrivacyURL: "mailto:help@id.example"},
		{TermsURL: "id.example/terms"},
	} {
		if _, err := New(Options{Brand: b}); err == nil {
			t.Errorf("%+v is taken", b)
		}
	}
}

func TestABrandIsOnEveryPage(t *testing.T) {
	p, err := New(Options{Brand: Brand{
		Name: "Acme <ID>", LogoURL: "data:image/png;base64,AA==", SupportURL: "https://id.example/help", PrivacyURL: "https://id.example/privacy", TermsURL: "https://id.example/terms",
	}})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := p.Home(&b, HomePage{}); err != nil {
		t.Fatal(err)
	}
	root := parse(t, b.String())
	header := first(root, "header")
	if words(header) != "Acme <ID>" || attr(first(header, "img"), "src") != "data:image/png;base64,AA==" {
		t.Errorf("the header is\n%s", b.String())
	}
	var links []string
	for _, a := range all(first(root, "footer"), "a") {
		links = append(links, words(a)+" "+attr(a, "href"))
	}
	if got := strings.Join(links, ", "); got != "Help https://id.example/help, Privacy https://id.example/privacy, Terms https://id.example/terms" {
		t.Errorf("the footer links to %s", got)
	}
}

// failingWriter refuses everything, and counts what it was asked to write.
type failingWriter struct{ writes int }

var errFull = errors.New("full")

func (f *failingWriter) Write([]byte) (int, error) {
	f.writes++
	return 0, errFull
}

// A page is written in one piece, so that nobody sees half of one.
func TestAPageIsWrittenInOnePiece(t *testing.T) {
	var w failingWriter
	if err := newPages(t).Home(&w, HomePage{Issuer: "https://id.example"}); !errors.Is(err, errFull) || w.writes != 1 {
		t.Errorf("error %v after %d writes", err, w.writes)
	}
}

// FuzzNames: whatever anybody is called, the page's structure stays the same.
func FuzzNames(f *testing.F) {
	p, err := New(Options{})
	if err != nil {
		f.Fatal(err)
	}
	structure := func(t *testing.T, name, link string) int {
		var b bytes.Buffer
		if err := p.Consent(&b, ConsentPage{
			App: App{Name: "x" + name, Website: link}, Action: "/c", Account: AccountView{Name: "x" + name, Email: "x" + name}, Scopes: []ScopeView{{Name: "x", Sentence: "x" + name}},
		}); err != nil {
			t.Fatal(err)
		}
		root := parse(t, b.String())
		for _, a := range all(first(root, "main"), "a") {
			if u, err := url.Parse(attr(a, "href")); err != nil || u.Scheme != "http" && u.Scheme != "https" {
				t.Errorf("a link to %q", attr(a, "href"))
			}
		}
		return count(root)
	}
	f.Add(hostile, "javascript:alert(1)")
	f.Add("{{.}}</title>", "https://app.example")
	f.Add("\x00\xff--><!--", "//x")
	f.Fuzz(func(t *testing.T, name, link string) {
		if got, want := structure(t, name, link), structure(t, "", link); got != want {
			t.Errorf("%q made %d elements of %d", name, got, want)
		}
	})
}

// BenchmarkChooser is the page of every login.
func BenchmarkChooser(b *testing.B) {
	p, err := New(Options{})
	if err != nil {
		b.Fatal(err)
	}
	page := ChooserPage{
		App: App{Name: "Acme Notes", Website: "https://notes.acme.example"}, ChooseAction: "/signin/f/choose", CancelAction: "/signin/f/cancel",
		Connectors: []Button{{"google", "google", "Google"}, {"facebook", "facebook", "Facebook"}, {"github", "github", "GitHub"}},
	}
	var out bytes.Buffer
	b.ReportAllocs()
	for b.Loop() {
		out.Reset()
		if err := p.Chooser(&out, page); err != nil {
			b.Fatal(err)
		}
	}
}

func parse(t *testing.T, page string) *html.Node {
	t.Helper()
	root, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func walk(n *html.Node, visit func(*html.Node)) {
	if n == nil {
		return
	}
	visit(n)
	for c := range n.ChildNodes() {
		walk(c, visit)
	}
}

func all(n *html.Node, tag string) []*html.Node {
	var found []*html.Node
	walk(n, func(c *html.Node) {
		if c.Type == html.ElementNode && c.Data == tag {
			found = append(found, c)
		}
	})
	return found
}

func first(n *html.Node, tag string) *html.Node {
	if found := all(n, tag); len(found) > 0 {
		return found[0]
	}
	return nil
}

func count(n *html.Node) int {
	elements := 0
	walk(n, func(c *html.Node) {
		if c.Type == html.ElementNode {
			elements++
		}
	})
	return elements
}

func hasAttr(n *html.Node, key string) bool {
	if n == nil {
		return false
	}
	for _, a := range n.Attr {
		if a.Key == key {
			return true
		}
	}
	return false
}

func attr(n *html.Node, key string) string {
	if n == nil {
		return ""
	}
	for _, a := range n.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}

// words is the text of n as it is read, with single spaces.
func words(n *html.Node) string {
	var b strings.Builder
	walk(n, func(c *html.Node) {
		if c.Type == html.TextNode {
			b.WriteString(c.Data)
		}
	})
	return strings.Join(strings.Fields(b.String()), " ")
}
