package sandbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// armedView is a fault as the calls under /sandbox/ read and write it.
type armedView struct {
	Provider Provider `json:"provider"`
	Fault    string   `json:"fault"`
	// Times is how often: 1 if it is left out, -1 until disarmed.
	Times int `json:"times"`
	// Delay is slow's, such as 1500ms.
	Delay string `json:"delay,omitempty"`
	At    string `json:"at,omitempty"`
}

// faultView describes a fault that can be armed.
type faultView struct {
	Fault     string     `json:"fault"`
	Providers []Provider `json:"providers"`
	About     string     `json:"about"`
}

func (s *Sandbox) controlRoutes(mux *http.ServeMux) {
	control := http.NewServeMux()
	control.HandleFunc("GET /sandbox/{$}", s.controlPage)
	control.HandleFunc("GET /sandbox/style.css", s.serveStyle)
	control.HandleFunc("GET /sandbox/personas", s.servePersonas)
	control.HandleFunc("GET /sandbox/faults", s.serveFaults)
	control.HandleFunc("POST /sandbox/faults", s.armFault)
	control.HandleFunc("DELETE /sandbox/faults", s.disarmFaults)
	control.HandleFunc("POST /sandbox/disarm", s.disarmForm) // forms cannot DELETE
	// A page of the web must not arm faults in a developer's sandbox.
	protected := http.NewCrossOriginProtection().Handler(control)
	mux.Handle("/sandbox/", protected)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/sandbox/", http.StatusFound)
	})
}

func (s *Sandbox) serveStyle(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Cache-Control", "max-age=3600")
	write(w, http.StatusOK, "text/css; charset=utf-8", s.pages().style)
}

func (s *Sandbox) servePersonas(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]any{"personas": s.people.list})
}

// writeFaults answers with what is armed and what can be.
func (s *Sandbox) writeFaults(w http.ResponseWriter) {
	writeJSON(w, http.StatusOK, map[string]any{"armed": s.armedViews(), "faults": faultViews()})
}

func (s *Sandbox) armedViews() []armedView {
	views := []armedView{}
	for _, a := range s.Armed() {
		v := armedView{Provider: a.Provider, Fault: a.Name, Times: a.Times, At: a.At}
		if a.Delay > 0 {
			v.Delay = a.Delay.String()
		}
		views = append(views, v)
	}
	return views
}

func (s *Sandbox) serveFaults(w http.ResponseWriter, _ *http.Request) { s.writeFaults(w) }

// armFault takes JSON, whatever its content type (curl -d says it is a form), or the page's form.
func (s *Sandbox) armFault(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		controlError(w, errors.New("the body cannot be read, or is too large"))
		return
	}
	form := !bytes.HasPrefix(bytes.TrimSpace(body), []byte("{"))
	v, err := parseArmed(body, form)
	if err == nil {
		err = s.armView(v)
	}
	switch {
	case err != nil:
		controlError(w, err)
	case form:
		http.Redirect(w, r, "/sandbox/", http.StatusSeeOther)
	default:
		s.writeFaults(w)
	}
}

func parseArmed(body []byte, form bool) (v armedView, err error) {
	if !form {
		d := json.NewDecoder(bytes.NewReader(body))
		d.DisallowUnknownFields() // a misspelt key must not arm another fault than was meant
		if err := d.Decode(&v); err != nil {
			return v, fmt.Errorf(`the body must be like {"provider":"github","fault":"deny","times":1}: %w`, err)
		}
		return v, nil
	}
	q, err := url.ParseQuery(string(body))
	if err != nil {
		return v, errors.New("the body must be JSON or a form")
	}
	v = armedView{Provider: Provider(q.Get("provider")), Fault: q.Get("fault"), Delay: q.Get("delay"), At: q.Get("at")}
	if times := q.Get("times"); times != "" {
		if v.Times, err = strconv.Atoi(times); err != nil {
			return v, errors.New("times: must be a number")
		}
	}
	return v, nil
}

func (s *Sandbox) armView(v armedView) error {
	f := Fault{Name: v.Fault, Times: v.Times, At: v.At}
	if v.Delay != "" {
		d, err := time.ParseDuration(v.Delay)
		if err != nil {
			return errors.New("delay: must be like 1500ms or 2s")
		}
		f.Delay = d
	}
	return s.Arm(v.Provider, f)
}

func controlError(w http.ResponseWriter, err error) {
	writeJSON(w, http.StatusBadRequest, map[string]string{"error": err.Error()})
}

// disarmFaults disarms all faults, or those that the query's provider and fault name.
func (s *Sandbox) disarmFaults(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if err := checkSelection(Provider(q.Get("provider")), q.Get("fault")); err != nil {
		controlError(w, err)
		return
	}
	s.Disarm(Provider(q.Get("provider")), q.Get("fault"))
	s.writeFaults(w)
}

// checkSelection refuses names that select nothing, for they are misspelt.
func checkSelection(p Provider, name string) error {
	if name == "" && p == "" {
		return nil
	}
	if name == "" {
		name = faultDeny // every provider has it
	}
	if p != "" {
		_, err := checkFault(p, Fault{Name: name})
		return err
	}
	var all []string
	for _, rule := range faultRules() {
		if rule.name == name {
			return nil
		}
		all = append(all, rule.name)
	}
	return fmt.Errorf("unknown fault %q: use one of %s", name, quoted(all))
}

func (s *Sandbox) disarmForm(w http.ResponseWriter, r *http.Request) {
	s.Disarm(Provider(r.PostFormValue("provider")), r.PostFormValue("fault"))
	http.Redirect(w, r, "/sandbox/", http.StatusSeeOther)
}

func (s *Sandbox) controlPage(w http.ResponseWriter, _ *http.Request) {
	type group struct {
		Provider Provider
		Title    string
		Faults   []string
		Calls    []string
	}
	var groups []group
	for _, p := range Providers() {
		kinds, _ := calls(p)
		groups = append(groups, group{p, p.title(), FaultNames(p), kinds})
	}
	type row struct{ Name, About, Google, GitHub, Facebook string }
	var rows []row
	for i := range s.people.list[:min(len(s.people.list), shownPersonas)] {
		p := &s.people.list[i]
		r := row{Name: p.Name, About: p.About}
		for provider, cell := range map[Provider]*string{Google: &r.Google, GitHub: &r.GitHub, Facebook: &r.Facebook} {
			if !p.has(provider) {
				continue
			}
			name, detail := p.shown(provider)
			*cell = name + " " + detail
		}
		rows = append(rows, r)
	}
	s.page(w, http.StatusOK, s.pages().control, map[string]any{
		"Title": "Portico sandbox", "Class": "control", "Personas": rows, "Groups": groups, "Rules": faultViews(), "Armed": s.armedViews(),
	})
}

func faultViews() []faultView {
	var views []faultView
	for _, rule := range faultRules() {
		views = append(views, faultView{rule.name, rule.providers, rule.about})
	}
	return views
}
