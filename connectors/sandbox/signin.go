package sandbox

import (
	"bytes"
	"embed"
	"html/template"
	"net/http"
	"strings"
)

//go:embed pages/*.html pages/style.css
var pageFiles embed.FS

// pages are this package's pages, parsed once.
type pages struct {
	signIn, blocked, formPost, control *template.Template
	style                              []byte
}

func loadPages() *pages {
	parse := func(name string) *template.Template {
		return template.Must(template.ParseFS(pageFiles, "pages/layout.html", "pages/"+name)).Lookup("layout.html")
	}
	style, err := pageFiles.ReadFile("pages/style.css")
	if err != nil {
		panic(err) // embedded
	}
	return &pages{signIn: parse("signin.html"), blocked: parse("blocked.html"), formPost: parse("formpost.html"), control: parse("control.html"), style: style}
}

// shownPersonas bounds how many buttons a page has; a hint names anyone.
const shownPersonas = 50

// question is what a browser brought to a provider's authorization endpoint, once it has been judged.
type question struct {
	provider Provider
	client   *Client
	hint     string // who should sign in: a persona's name, address, id or login
	domain   string // Google's hd: who else might be meant; "*" is any Workspace domain
	scopes   []string
	allow    func(*Persona)
	deny     func()
}

// signIn decides who signs in, or asks: a page with a button for each persona. It keeps no state: the page's
// form posts to the URL that the browser came by.
func (s *Sandbox) signIn(w http.ResponseWriter, r *http.Request, q question) {
	if _, ok := s.take(r, q.provider, faultDeny, ""); ok {
		q.deny()
		return
	}
	if r.Method == http.MethodPost {
		if r.PostFormValue("deny") != "" {
			q.deny()
			return
		}
		if p := s.people.byName[r.PostFormValue("persona")]; p != nil && p.has(q.provider) {
			s.allow(r, q, p)
			return
		}
	} else if p := s.automatic(q); p != nil {
		s.allow(r, q, p)
		return
	}
	s.signInPage(w, r, q)
}

// automatic is who signs in without a page, or nil.
func (s *Sandbox) automatic(q question) *Persona {
	if s.people.auto == nil {
		return nil
	}
	if p := s.people.named(q.provider, q.hint); p != nil {
		return p
	}
	if s.people.auto.has(q.provider) {
		return s.people.auto
	}
	return nil
}

func (s *Sandbox) allow(r *http.Request, q question, p *Persona) {
	s.logger.DebugContext(r.Context(), "sandbox: signed in", "provider", string(q.provider), "persona", p.Name, "client", q.client.ID)
	q.allow(p)
}

// choices are the personas that a page offers, the one who is meant first.
func (s *Sandbox) choices(q question) []*Persona {
	first := s.people.named(q.provider, q.hint)
	if first == nil && q.domain != "" {
		for i := range s.people.list {
			if p := &s.people.list[i]; p.Google != nil && (p.Google.HD == q.domain || q.domain == "*" && p.Google.HD != "") {
				first = p
				break
			}
		}
	}
	if first == nil {
		first = s.people.first[q.provider]
	}
	if first == nil {
		return nil
	}
	list := []*Persona{first}
	for i := range s.people.list {
		if p := &s.people.list[i]; p != first && p.has(q.provider) && len(list) < shownPersonas {
			list = append(list, p)
		}
	}
	return list
}

type choiceView struct{ Name, Shown, Detail, About string }

func (s *Sandbox) signInPage(w http.ResponseWriter, r *http.Request, q question) {
	var choices []choiceView
	for _, p := range s.choices(q) {
		name, detail := p.shown(q.provider)
		choices = append(choices, choiceView{p.Name, name, detail, p.About})
	}
	s.page(w, http.StatusOK, s.pages().signIn, map[string]any{
		"Title": simulated(q.provider), "Provider": q.provider.title(), "Class": string(q.provider),
		"Client": q.client.ID, "Scopes": strings.Join(q.scopes, " "), "Choices": choices, "Action": r.URL.RequestURI(),
	})
}

// blocked is a provider's page for a request that it does not answer with a redirect.
func (s *Sandbox) blocked(w http.ResponseWriter, p Provider, status int, code, detail string) {
	s.page(w, status, s.pages().blocked, map[string]any{
		"Title": simulated(p), "Class": string(p), "Status": status, "Code": code, "Detail": detail,
	})
}

func simulated(p Provider) string { return "Simulated " + p.title() + " – sandbox" }

func (s *Sandbox) page(w http.ResponseWriter, status int, t *template.Template, data any) {
	var b bytes.Buffer
	if err := t.Execute(&b, data); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	h := w.Header()
	// No form-action: a browser applies it to the redirect that answers a form as well, and that goes to the app.
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; frame-ancestors 'none'")
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "same-origin")
	write(w, status, htmlType, b.Bytes())
}
