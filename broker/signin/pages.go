package signin

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/portico-id/portico/broker/flow"
	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/broker/web"
	"github.com/portico-id/portico/connectors"
	"github.com/portico-id/portico/templates"
)

// ErrorPage is what a person is told when something went wrong, and the cause that the log is.
type ErrorPage struct {
	Status  int
	Title   string
	Message string
	ToDo    string
	Cause   error

	app *registry.Client // whose sign-in failed, where that is known
}

var expiredPage = ErrorPage{
	Status:  http.StatusGone,
	Title:   "This sign-in has expired",
	Message: "It was started too long ago, or does not exist.",
	ToDo:    "Go back to the app and start again.",
}

var otherBrowserPage = ErrorPage{
	Status:  http.StatusForbidden,
	Title:   "This sign-in belongs to another browser",
	Message: "It was started in another browser or window, or your browser did not keep our cookie.",
	ToDo:    "Go back to the app in this browser and start again. If somebody sent you this link, do not go on.",
}

var usedStatePage = ErrorPage{
	Status:  http.StatusBadRequest,
	Title:   "That step was done already",
	Message: "The answer from the provider was used before, or you have chosen another way since.",
	ToDo:    "Try again, or go back to the app.",
}

var noStatePage = ErrorPage{
	Status:  http.StatusBadRequest,
	Title:   "This sign-in cannot be found",
	Message: "The provider's answer does not say which sign-in it belongs to.",
	ToDo:    "Go back to the app and start again.",
}

func ourFault(err error) *ErrorPage {
	return &ErrorPage{
		Status:  http.StatusInternalServerError,
		Title:   "Something went wrong here",
		Message: "The server could not do its part. It is not your fault.",
		ToDo:    "Try again in a moment.",
		Cause:   err,
	}
}

// sprintName puts a provider's name into a sentence that may have a place for it.
func sprintName(sentence, name string) string { return strings.ReplaceAll(sentence, "%s", name) }

// pageWriter is where a page is rendered before any of it is sent.
type pageWriter = bytes.Buffer

// page renders and sends a page; doc is the flow that it belongs to, if any.
func (s *Service) page(w http.ResponseWriter, r *http.Request, doc *flow.Doc, status int, render func(*pageWriter) error) {
	leadsTo := ""
	if doc != nil {
		leadsTo = doc.Value.Request.RedirectURI
		if doc.Value.Device != nil {
			leadsTo = s.o.Issuer + pathDevice
		}
	}
	s.send(w, r, status, leadsTo, render)
}

// send renders and sends a page whose forms may lead to the URI leadsTo.
func (s *Service) send(w http.ResponseWriter, r *http.Request, status int, leadsTo string, render func(*pageWriter) error) {
	s.sendWith(w, r, status, leadsTo, func(http.Header) {}, render)
}

// sendWith is send, with headers that the page needs beyond what all have.
func (s *Service) sendWith(w http.ResponseWriter, r *http.Request, status int, leadsTo string, headers func(http.Header), render func(*pageWriter) error) {
	var b pageWriter
	if err := render(&b); err != nil {
		s.o.Log.ErrorContext(r.Context(), "a page cannot be rendered", slog.Any("cause", err))
		http.Error(w, "Something went wrong here. Try again in a moment.", http.StatusInternalServerError)
		return
	}
	web.PageHeaders(w.Header(), s.formAction(leadsTo)...)
	headers(w.Header())
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // The only error is a browser that hung up.
}

// formAction is where the forms of a flow's page may lead. Chromium applies form-action to every redirect that follows a
// form, so it must allow the providers, whatever they redirect to in between, and the app's redirect URI. Hosts of other
// sites cannot be listed, since a provider may send people on to their company's own; schemes can.
func (s *Service) formAction(redirectURI string) []string {
	if redirectURI == "" {
		return nil
	}
	sources := []string{"https:"}
	if strings.HasPrefix(s.o.Issuer, "http:") { // a broker on loopback, with simulated providers beside it
		sources = append(sources, "http://127.0.0.1:*", "http://localhost:*")
	}
	u, err := url.Parse(redirectURI)
	switch {
	case err != nil, u.Scheme == "https":
	case u.Scheme == "http" && net.ParseIP(u.Hostname()).To4() == nil && u.Hostname() != "localhost":
		sources = append(sources, "http:") // a source list cannot name an IPv6 address
	case u.Scheme == "http":
		sources = append(sources, "http://"+u.Host)
	default:
		sources = append(sources, u.Scheme+":")
	}
	return sources
}

// ShowError shows a person a page about a request that belongs to no flow.
func (s *Service) ShowError(w http.ResponseWriter, r *http.Request, page ErrorPage) {
	s.showError(w, r, nil, page)
}

// showError shows what went wrong, with a reference that finds the line in the log. With an open flow it offers the
// ways on.
func (s *Service) showError(w http.ResponseWriter, r *http.Request, doc *flow.Doc, page ErrorPage) {
	level := slog.LevelInfo
	if page.Status >= http.StatusInternalServerError {
		level = slog.LevelError
	}
	attrs := []slog.Attr{slog.Int("status", page.Status), slog.String("title", page.Title)}
	if page.Cause != nil {
		attrs = append(attrs, slog.Any("cause", page.Cause))
	}
	s.o.Log.LogAttrs(r.Context(), level, "a person was shown an error", attrs...)

	view := templates.ErrorPage{
		Status:    page.Status,
		Title:     page.Title,
		Message:   page.Message,
		WhatToDo:  page.ToDo,
		Reference: web.RequestID(r.Context()),
	}
	if page.app != nil && doc != nil {
		view.App = app(page.app, doc.Value.Request.RedirectURI)
	}
	if doc != nil && !doc.Value.Over() {
		if doc.Value.Device == nil { // there is no way back to a device from here
			view.ReturnAction = action(doc.ID, "return")
		}
		view.AgainAction = action(doc.ID, "again")
	}
	s.page(w, r, doc, page.Status, func(b *pageWriter) error { return s.o.Pages.Error(b, view) })
}

// hidden are an authorization response as the fields of a form.
func hidden(answer url.Values) []templates.Field {
	fields := make([]templates.Field, 0, len(answer))
	for name := range answer {
		fields = append(fields, templates.Field{Name: name, Value: answer.Get(name)})
	}
	return fields
}

// AskToLeave shows a person that an app was given nothing, for the reason that code is, and where the app would have them go on: to location, with
// form posted to it if there is one. Nothing that the request says is on the page but the app's name.
func (s *Service) AskToLeave(w http.ResponseWriter, r *http.Request, client *registry.Client, code, location string, form url.Values) {
	page := templates.LeavePage{App: app(client, location), Code: code, GoesTo: webHost(location), URL: location, Fields: hidden(form)}
	s.send(w, r, http.StatusOK, location, func(b *pageWriter) error { return s.o.Pages.Leave(b, page) })
}

// FormPost sends an authorization response through the browser as a form (OAuth 2.0 Form Post Response Mode).
func (s *Service) FormPost(w http.ResponseWriter, r *http.Request, redirectURI string, answer url.Values) {
	var b pageWriter
	if err := s.o.Pages.FormPost(&b, templates.FormPostPage{Action: redirectURI, Fields: hidden(answer)}); err != nil {
		s.showError(w, r, nil, *ourFault(fmt.Errorf("form_post: %w", err)))
		return
	}
	h := w.Header()
	web.PageHeaders(h, s.formAction(redirectURI)...)
	// The page's one script submits the form; people without scripts press its button.
	h.Set("Content-Security-Policy", h.Get("Content-Security-Policy")+"; script-src "+templates.FormPostScriptHash)
	h.Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(b.Bytes())
}

// Home is what the broker's own address shows: what this server is, to people who come by and to developers.
func (s *Service) Home(w http.ResponseWriter, r *http.Request) {
	links := []templates.HomeLink{
		{Text: "Discovery document", URL: "/.well-known/openid-configuration", Sentence: "What apps need to know to sign people in here"},
		{Text: "Sign out", URL: "/logout", Sentence: "End the session of this browser"},
	}
	if s.o.Devices != nil {
		links = append([]templates.HomeLink{{Text: "Connect a device", URL: pathDevice, Sentence: "Enter the code that a TV or a command line shows"}}, links...)
	}
	s.send(w, r, http.StatusOK, "", func(b *pageWriter) error {
		return s.o.Pages.Home(b, templates.HomePage{Issuer: s.o.Issuer, Links: links})
	})
}

// app is a client as a person sees it where an answer goes to redirectURI; "" if it goes to none.
func app(c *registry.Client, redirectURI string) templates.App {
	return templates.App{Name: c.Name, Website: c.Site(redirectURI), LogoURL: c.Shown(c.LogoURI, redirectURI), Unverified: !c.Verified()}
}

func buttons(list []connectors.Connector) []templates.Button {
	out := make([]templates.Button, 0, len(list))
	for _, c := range list {
		info := c.Info()
		out = append(out, templates.Button{Name: info.Name, Type: info.Type, DisplayName: info.DisplayName})
	}
	return out
}

func (s *Service) displayName(connector string) string {
	if c, exists := s.byName[connector]; exists {
		return c.Info().DisplayName
	}
	return connector
}

// nameOf is how an account is called on a page; its absence is no reason to fail.
func (s *Service) nameOf(r *http.Request, accountID string) string {
	account, err := s.o.Accounts.Get(r.Context(), accountID)
	if err != nil {
		return ""
	}
	for _, name := range []string{account.Name, account.Email, account.Username} {
		if name != "" {
			return name
		}
	}
	return "your account"
}
