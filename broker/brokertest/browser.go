package brokertest

import (
	"bytes"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

// Browser is a browser without scripts: it keeps cookies, reads pages and presses buttons. It follows redirects
// one by one, so that a test sees each. Not for concurrent use; tests that race clone requests themselves.
type Browser struct {
	t      testing.TB
	Client *http.Client
}

// NewBrowser opens a browser that has never been anywhere.
func NewBrowser(t testing.TB) *Browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &Browser{t: t, Client: &http.Client{
		Jar:           jar,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Page is one response.
type Page struct {
	browser *Browser
	URL     *url.URL
	Status  int
	Header  http.Header
	Body    string
	Forms   []Form
}

// Form is a form of a page, with its submit buttons in order.
type Form struct {
	Method, Action string
	Fields         url.Values
	Buttons        []Button
}

// Button is a submit button.
type Button struct{ Name, Value, Text string }

// Get opens a URL, without following where it leads.
func (b *Browser) Get(target string) *Page {
	b.t.Helper()
	return b.do(http.MethodGet, target, nil)
}

// Post sends a form as a page of the same origin would.
func (b *Browser) Post(target string, form url.Values) *Page {
	b.t.Helper()
	return b.do(http.MethodPost, target, form)
}

func (b *Browser) do(method, target string, form url.Values) *Page {
	b.t.Helper()
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	request, err := http.NewRequestWithContext(b.t.Context(), method, target, body)
	if err != nil {
		b.t.Fatalf("%s %s: %v", method, target, err)
	}
	if form != nil {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		request.Header.Set("Origin", request.URL.Scheme+"://"+request.URL.Host)
		request.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	response, err := b.Client.Do(request)
	if err != nil {
		b.t.Fatalf("%s %s: %v", method, target, err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		b.t.Fatalf("%s %s: %v", method, target, err)
	}
	page := &Page{browser: b, URL: request.URL, Status: response.StatusCode, Header: response.Header, Body: string(content)}
	if strings.HasPrefix(response.Header.Get("Content-Type"), "text/html") {
		page.Forms = readForms(content)
	}
	return page
}

// Location is where the response redirects to, or nil.
func (p *Page) Location() *url.URL {
	location := p.Header.Get("Location")
	if location == "" {
		return nil
	}
	u, err := p.URL.Parse(location)
	if err != nil {
		p.browser.t.Fatalf("Location %q: %v", location, err)
	}
	return u
}

// Submit presses the first button of the page's n-th form that has the given text, name or value; the form's
// very first button if press is empty.
func (p *Page) Submit(n int, press string) *Page {
	p.browser.t.Helper()
	if n >= len(p.Forms) {
		p.browser.t.Fatalf("%s (%d) has %d forms:\n%s", p.URL, p.Status, len(p.Forms), p.Body)
	}
	form := p.Forms[n]
	fields := url.Values{}
	for name, values := range form.Fields {
		fields[name] = values
	}
	pressed := false
	for _, button := range form.Buttons {
		if press == "" || button.Value == press || button.Name == press || strings.Contains(button.Text, press) {
			if button.Name != "" {
				fields.Set(button.Name, button.Value)
			}
			pressed = true
			break
		}
	}
	if !pressed {
		p.browser.t.Fatalf("%s: form %d has no button %q: %+v", p.URL, n, press, form.Buttons)
	}
	target, err := p.URL.Parse(form.Action)
	if err != nil {
		p.browser.t.Fatalf("form action %q: %v", form.Action, err)
	}
	if strings.EqualFold(form.Method, "post") {
		return p.browser.Post(target.String(), fields)
	}
	target.RawQuery = fields.Encode()
	return p.browser.Get(target.String())
}

// maxSteps bounds a walk: the longest honest one, a link proven at a second provider, takes fourteen.
const maxSteps = 30

// Walk opens a URL and goes on as a person who always presses the first button of the first form would, until a redirect
// leads to a URL that begins with stop. It returns that URL; nil and the page if the walk ends elsewhere.
func (b *Browser) Walk(target, stop string) (*url.URL, *Page) {
	b.t.Helper()
	return b.Get(target).Walk(stop)
}

// Walk goes on from a page.
func (p *Page) Walk(stop string) (*url.URL, *Page) {
	p.browser.t.Helper()
	for range maxSteps {
		switch location := p.Location(); {
		case location != nil && strings.HasPrefix(location.String(), stop):
			return location, p
		case location != nil:
			p = p.browser.Get(location.String())
		case len(p.Forms) > 0 && strings.HasPrefix(p.Forms[0].Action, stop):
			answer, _ := url.Parse(p.Forms[0].Action)
			answer.RawQuery = p.Forms[0].Fields.Encode()
			return answer, p
		case len(p.Forms) > 0 && p.Status < http.StatusBadRequest:
			p = p.Submit(0, "")
		default:
			return nil, p
		}
	}
	p.browser.t.Fatalf("the walk did not end; it is at %s", p.URL)
	return nil, nil
}

func readForms(body []byte) []Form {
	root, err := html.Parse(bytes.NewReader(body))
	if err != nil {
		return nil
	}
	var forms []Form
	var visit func(n *html.Node, form *Form)
	visit = func(n *html.Node, form *Form) {
		if n.Type == html.ElementNode {
			switch n.Data {
			case "form":
				forms = append(forms, Form{Method: attr(n, "method"), Action: attr(n, "action"), Fields: url.Values{}})
				form = &forms[len(forms)-1]
				for c := n.FirstChild; c != nil; c = c.NextSibling {
					visit(c, form)
				}
				return
			case "input":
				if form != nil {
					if kind := attr(n, "type"); kind == "submit" {
						form.Buttons = append(form.Buttons, Button{Name: attr(n, "name"), Value: attr(n, "value"), Text: attr(n, "value")})
					} else if attr(n, "name") != "" {
						form.Fields.Add(attr(n, "name"), attr(n, "value"))
					}
				}
			case "button":
				if form != nil && attr(n, "type") != "button" {
					form.Buttons = append(form.Buttons, Button{Name: attr(n, "name"), Value: attr(n, "value"), Text: text(n)})
				}
			}
		}
		for c := n.FirstChild; c != nil; c = c.NextSibling {
			visit(c, form)
		}
	}
	visit(root, nil)
	return forms
}

func attr(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

func text(n *html.Node) string {
	if n.Type == html.TextNode {
		return strings.TrimSpace(n.Data)
	}
	var parts []string
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		if s := text(c); s != "" {
			parts = append(parts, s)
		}
	}
	return strings.Join(parts, " ")
}
