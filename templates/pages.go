package templates

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"io"
)

//go:embed html/*.html
var htmlFiles embed.FS

// DefaultName is the brand of a broker that was given none.
const DefaultName = "Portico"

// FormPostScriptHash is the script-src source of the one script on any page, that of [Pages.FormPost] (CSP Level 3
// section 2.3.1).
const FormPostScriptHash = "'sha256-ox4bri+xTrW3kuLTyRoak73QX8KZGuyP3JlQYusbSlA='"

// Brand is whose front door this is, as every page shows it.
type Brand struct {
	Name       string // "" is DefaultName
	LogoURL    string // https, a path on this host, or a data: image; "" is Portico's own
	SupportURL string // http, https or mailto; may be empty, as may the next two
	PrivacyURL string // http or https
	TermsURL   string // http or https
}

// Options are what the pages are made with. The zero value is useful.
type Options struct {
	Brand Brand
}

// Pages renders the pages. It is safe for concurrent use. Each method writes a whole page to w or, on an error, nothing.
type Pages struct {
	brand  brandView
	assets *assets

	chooser, consent, link, error, signOut, signedOut, formPost, leave, home, device, deviceConfirm, deviceDone *template.Template
}

// brandView is a brand as the layout takes it. Its URLs have been checked.
type brandView struct {
	Name                             string
	Logo                             template.URL
	SupportURL, PrivacyURL, TermsURL string
	SupportIsMail                    bool
}

// layoutView is what the layout takes.
type layoutView struct {
	Title                      string
	Brand                      *brandView
	PicoURL, StyleURL, IconURL string
	Page                       any
}

// New reads the templates. Its error names a brand URL that is not of the kind that its field says.
func New(o Options) (*Pages, error) {
	b := o.Brand
	if b.Name == "" {
		b.Name = DefaultName
	}
	if err := errors.Join(
		checkURL("logo URL", b.LogoURL, brandLogoURL),
		checkURL("support URL", b.SupportURL, supportURL),
		checkURL("privacy URL", b.PrivacyURL, webURL),
		checkURL("terms URL", b.TermsURL, webURL),
	); err != nil {
		return nil, err
	}
	p := &Pages{brand: brandView{
		Name:          b.Name,
		Logo:          template.URL(b.LogoURL), // checked above: html/template would refuse data: images
		SupportURL:    b.SupportURL,
		PrivacyURL:    b.PrivacyURL,
		TermsURL:      b.TermsURL,
		SupportIsMail: b.SupportURL != "" && webURL(b.SupportURL) == "",
	}}
	var err error
	if p.assets, err = readAssets(); err != nil {
		return nil, err
	}
	shared, err := template.New("layout.html").Funcs(template.FuncMap{
		"webURL":   webURL,
		"imageURL": imageURL,
		"linkURL":  linkURL,
		"appURL":   appURL,
		"host":     webHost,
		"initial":  initial,
		"ago":      ago,
	}).ParseFS(htmlFiles, "html/layout.html", "html/parts.html", "html/icons.html")
	if err != nil {
		return nil, fmt.Errorf("templates: %w", err)
	}
	for name, page := range map[string]**template.Template{
		"chooser": &p.chooser, "consent": &p.consent, "link": &p.link, "error": &p.error, "sign_out": &p.signOut,
		"signed_out": &p.signedOut, "form_post": &p.formPost, "leave": &p.leave, "home": &p.home,
		"device": &p.device, "device_confirm": &p.deviceConfirm, "device_done": &p.deviceDone,
	} {
		t, err := shared.Clone()
		if err == nil {
			t, err = t.ParseFS(htmlFiles, "html/"+name+".html")
		}
		if err != nil {
			return nil, fmt.Errorf("templates: %w", err)
		}
		*page = t
	}
	return p, nil
}

// pageSize is room for most pages, so that rendering one seldom grows its buffer.
const pageSize = 8 << 10

// render writes one page to w, or nothing.
func (p *Pages) render(w io.Writer, t *template.Template, title string, page any) error {
	var b bytes.Buffer
	b.Grow(pageSize)
	if err := t.Execute(&b, layoutView{
		Title:    titleText(title),
		Brand:    &p.brand,
		PicoURL:  p.assets.urls["pico.min.css"],
		StyleURL: p.assets.urls["portico.css"],
		IconURL:  p.assets.urls["portico.svg"],
		Page:     page,
	}); err != nil {
		return fmt.Errorf("templates: %w", err)
	}
	_, err := w.Write(b.Bytes())
	return err
}

// Chooser asks which provider to sign in with.
func (p *Pages) Chooser(w io.Writer, page ChooserPage) error {
	page.LoginHint = shownHint(page.LoginHint)
	return p.render(w, p.chooser, "Sign in to "+page.App.Name, page)
}

// offlineScope is the scope that OpenID Connect Core section 11 names for access while the person is away.
const offlineScope = "offline_access"

// Consent asks whether an app may have what it asked for. The scope offline_access is told last, whether it is among the
// scopes or OfflineAccess alone says so.
func (p *Pages) Consent(w io.Writer, page ConsentPage) error {
	page.Scopes = offlineLast(page.Scopes, page.OfflineAccess)
	return p.render(w, p.consent, "Allow "+page.App.Name+"?", page)
}

// offlineLast is scopes with offline_access at the end, if it is among them or added.
func offlineLast(all []ScopeView, added bool) []ScopeView {
	scopes := make([]ScopeView, 0, len(all)+1)
	offline := ScopeView{Name: offlineScope}
	for _, scope := range all {
		if scope.Name == offlineScope {
			offline, added = scope, true
			continue
		}
		scopes = append(scopes, scope)
	}
	if !added {
		return scopes
	}
	if offline.Sentence == "" {
		offline.Sentence = "Keep this access while you are away"
	}
	return append(scopes, offline)
}

// Device asks for the code that a device shows (RFC 8628 section 3.3).
func (p *Pages) Device(w io.Writer, page DevicePage) error {
	return p.render(w, p.device, "Connect a device", page)
}

// DeviceConfirm asks whether an app on a device may have what it asked for. It tells what a person needs to notice that somebody
// else is at the other end (RFC 8628 section 5.4).
func (p *Pages) DeviceConfirm(w io.Writer, page DeviceConfirmPage) error {
	page.Scopes = offlineLast(page.Scopes, false)
	return p.render(w, p.deviceConfirm, "Connect "+page.App.Name+"?", page)
}

// DeviceDone says what came of it.
func (p *Pages) DeviceDone(w io.Writer, page DeviceDonePage) error {
	title := "Nothing was connected"
	if page.Outcome == DeviceConnected {
		title = "You are connected"
	}
	return p.render(w, p.deviceDone, title, page)
}

// Link asks a person to prove that an account with their email is theirs.
func (p *Pages) Link(w io.Writer, page LinkPage) error {
	return p.render(w, p.link, "You may already have an account", page)
}

// Error says what happened and what to do.
func (p *Pages) Error(w io.Writer, page ErrorPage) error {
	if page.Title == "" {
		page.Title = "Something went wrong" // A page without a heading is lost on a screen reader.
	}
	return p.render(w, p.error, page.Title, page)
}

// SignOut asks whether to sign out.
func (p *Pages) SignOut(w io.Writer, page SignOutPage) error {
	return p.render(w, p.signOut, "Sign out?", page)
}

// SignedOut says that it is done.
func (p *Pages) SignedOut(w io.Writer, page SignedOutPage) error {
	return p.render(w, p.signedOut, "You are signed out", page)
}

// FormPost carries an authorization response to the app. Send it with [FormPostScriptHash] in script-src; without scripts
// the person presses its button. An Action that is no http or https URL is an error: no browser can post to it, and
// javascript: must not run.
func (p *Pages) FormPost(w io.Writer, page FormPostPage) error {
	if webURL(page.Action) == "" {
		return fmt.Errorf("templates: form_post: %q is not an http or https URL", page.Action)
	}
	return p.render(w, p.formPost, "Going back to the app", page)
}

// Leave leaves it to the person to go on to an app that nobody has checked.
func (p *Pages) Leave(w io.Writer, page LeavePage) error {
	return p.render(w, p.leave, "Nothing was shared", page)
}

// Home says what this server is.
func (p *Pages) Home(w io.Writer, page HomePage) error {
	return p.render(w, p.home, "Sign-in service", page)
}
