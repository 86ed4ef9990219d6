package sandbox

import (
	"bytes"
	"html"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// buttons are the values of a page's submit buttons, in order, and its form's action.
func buttons(t *testing.T, r reply) (values []string, action string) {
	t.Helper()
	form := regexp.MustCompile(`(?s)<form method="post" action="([^"]*)">(.*?)</form>`).FindStringSubmatch(r.body)
	if r.status != http.StatusOK || form == nil {
		t.Fatalf("no form: %d %s", r.status, r.body)
	}
	for _, m := range regexp.MustCompile(`<button[^>]* value="([^"]*)"`).FindAllStringSubmatch(form[2], -1) {
		values = append(values, m[1])
	}
	return values, html.UnescapeString(form[1])
}

// The first button is who the hint names, so that a script that presses it signs in as that person.
func TestTheFirstButtonIsWhoTheHintNames(t *testing.T) {
	w := newWorld(t, withoutAuto)
	long := w.people.byName["otto"].Google.Email
	for _, c := range []struct {
		provider Provider
		change   string
		want     string
	}{
		{Google, "", "ann"},
		{Google, "login_hint=bob", "bob"},
		{Google, "login_hint=bob@example.com", "bob"},
		{Google, "login_hint=BOB@Example.com", "bob"},
		{Google, "login_hint=104711358226741902733", "bob"},
		{Google, "login_hint=" + long, "otto"},
		{Google, "login_hint=nobody", "ann"},
		{Google, "login_hint=cleo", "ann"}, // has no account there
		{Google, "hd=example.com", "bob"},
		{Google, "hd=*", "bob"},
		{Google, "hd=other.example", "ann"}, // hd is a hint and closes nobody out
		{GitHub, "", "ann"},
		{GitHub, "login=bobstone", "bob"},
		{GitHub, "login=cleo", "cleo"},
		{GitHub, "login=mallory", "mallory"},
		{GitHub, "login=ann.lee@gmail.com", "ann"}, // not mallory, who has entered it too
		{Facebook, "login_hint=cleo", "cleo"},
		{Facebook, "login_hint=10229871604462515", "cleo"},
	} {
		r := w.authorize(c.provider, c.change)
		values, action := buttons(t, r)
		if values[0] != c.want || values[len(values)-1] != "deny" {
			t.Errorf("%s %s: %v, want %s first and deny last", c.provider, c.change, values, c.want)
		}
		for _, p := range w.Personas() {
			if slices.Contains(values, p.Name) != p.has(c.provider) {
				t.Errorf("%s: %s is offered or has no account", c.provider, p.Name)
			}
		}
		if !strings.Contains(r.body, "Simulated "+c.provider.title()+" – sandbox") || strings.Contains(r.body, "<script") {
			t.Errorf("%s: the page is not labelled, or has a script", c.provider)
		}
		for _, press := range []string{c.want, "mallory", "deny"} {
			if !slices.Contains(values, press) {
				continue
			}
			field := "persona"
			if press == "deny" {
				field = "deny"
			}
			answer := w.post(w.base+action, url.Values{field: {press}})
			values, _ := answer.callback()
			if answer.status != http.StatusSeeOther || values.Get("state") != "S" || values.Has("code") == (press == "deny") {
				t.Errorf("%s: pressing %s: %d %v", c.provider, press, answer.status, values)
			}
		}
	}
}

func TestWhoIsPressedIsWhoSignsIn(t *testing.T) {
	w := newWorld(t, withoutAuto)
	_, action := buttons(t, w.authorize(GitHub))
	values, _ := w.post(w.base+action, url.Values{"persona": {"mallory"}}).callback()
	token := w.redeem(GitHub, values.Get("code")).text("access_token")
	if got := w.profile(GitHub, token).text("login"); got != "mallory" {
		t.Errorf("signed in as %s", got)
	}
	for _, name := range []string{"uma", "nobody", ""} { // no account there
		if r := w.post(w.base+action, url.Values{"persona": {name}}); r.status != http.StatusOK {
			t.Errorf("%q: %d", name, r.status)
		}
	}
	// The POST is judged as the GET was: the form's action cannot smuggle a redirect.
	if r := w.post(w.GoogleURL()+"/o/oauth2/v2/auth?"+q(googleRequest, "redirect_uri=https://evil.example/").Encode(), url.Values{"persona": {"ann"}}); r.status != http.StatusBadRequest {
		t.Errorf("%d %v", r.status, r.header)
	}
}

func TestAutoSignsInWithoutAPage(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Auto = "bob" })
	if r := w.authorize(Google); r.status != http.StatusFound {
		t.Errorf("%d", r.status)
	}
	if got := w.profile(Google, w.token(Google)).text("email"); got != "bob@example.com" {
		t.Errorf("signed in as %s", got)
	}
	if got := w.profile(Google, w.token(Google, "login_hint=ann")).text("email"); got != "ann.lee@gmail.com" {
		t.Errorf("a hint lost to Auto: %s", got)
	}
	if r := w.authorize(Facebook); r.status != http.StatusOK {
		t.Errorf("bob has no account at Facebook, and got %d", r.status)
	}
}

func TestAProviderWithoutPersonas(t *testing.T) {
	w := newWorld(t, withoutAuto, func(o *Options) { o.Personas = []Persona{{Name: "gus", Google: &GoogleAccount{Sub: "1"}}} })
	if values, _ := buttons(t, w.authorize(GitHub)); len(values) != 1 || values[0] != "deny" {
		t.Errorf("%v", values)
	}
	if got := w.Personas()[0].Email(); got != "" {
		t.Errorf("Email %q", got)
	}
}

func TestPagesAreNotFramedAndRunNothing(t *testing.T) {
	w := newWorld(t, withoutAuto)
	csp := w.authorize(Google).header.Get("Content-Security-Policy")
	if !strings.Contains(csp, "default-src 'none'") || !strings.Contains(csp, "frame-ancestors 'none'") || strings.Contains(csp, "form-action") {
		t.Errorf("%s", csp)
	}
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

// Nothing secret reaches the log, even here: what is pasted into a bug report should be harmless by habit.
func TestTheLogHasNoSecrets(t *testing.T) {
	var log safeBuffer
	w := newWorld(t, func(o *Options) {
		o.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	var secrets []string
	for _, p := range Providers() {
		if err := w.Arm(p, Fault{Name: faultSlow}); err != nil {
			t.Fatal(err)
		}
		callback, token, _ := w.walk(p)
		secrets = append(secrets, callback.Get("code"), token.text("access_token"))
	}
	secrets = append(secrets, "g-secret", "gh-secret", "fb-secret", verifier)
	log.mu.Lock()
	defer log.mu.Unlock()
	text := log.b.String()
	if !strings.Contains(text, "persona=ann") || !strings.Contains(text, "fault=slow") {
		t.Errorf("log: %s", text)
	}
	for _, s := range secrets {
		if strings.Contains(text, s) {
			t.Errorf("the log has %s", s)
		}
	}
}
