package sandbox

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// What the tests of the broker rely on about each persona.
func TestDefaultPersonas(t *testing.T) {
	people := map[string]Persona{}
	for _, p := range DefaultPersonas() {
		people[p.Name] = p
		if p.About == "" {
			t.Errorf("%s: no About", p.Name)
		}
	}
	primary := func(name string) GitHubEmail {
		t.Helper()
		for _, e := range people[name].GitHub.Emails {
			if e.Primary {
				return e
			}
		}
		t.Fatalf("%s has no primary address", name)
		return GitHubEmail{}
	}
	ann, bob, cleo, mallory, uma, nora, otto := people["ann"], people["bob"], people["cleo"], people["mallory"], people["uma"], people["nora"], people["otto"]
	for what, ok := range map[string]bool{
		"ann's addresses agree":                     ann.Google.Email == "ann.lee@gmail.com" && primary("ann").Email == ann.Google.Email && ann.Facebook.Email == ann.Google.Email,
		"ann's are verified":                        ann.Google.EmailVerified && primary("ann").Verified && ann.Google.HD == "",
		"bob is in a Workspace domain":              bob.Google.HD == "example.com" && bob.Google.Email == "bob@example.com" && bob.Google.EmailVerified && bob.GitHub != nil && bob.Facebook == nil,
		"cleo gives Facebook none":                  cleo.Facebook.Email == "" && cleo.GitHub.Email == "" && primary("cleo").Verified && *primary("cleo").Visibility == "private",
		"mallory entered ann's address, unverified": primary("mallory").Email == ann.Google.Email && !primary("mallory").Verified && mallory.GitHub.Email == ann.Google.Email && mallory.Google == nil,
		"uma's is not verified":                     !uma.Google.EmailVerified && uma.Google.Email != "",
		"nora has the noreply one alone":            len(nora.GitHub.Emails) == 1 && strings.HasSuffix(primary("nora").Email, "@users.noreply.github.com"),
		"otto's name is long and not ASCII":         len(otto.Google.Name) > 300 && utf8.ValidString(otto.Google.Name) && utf8.RuneCountInString(otto.Google.Name) < len(otto.Google.Name),
		"otto's address has 254 characters":         len(otto.Google.Email) == 254 && primary("otto").Email == otto.Google.Email,
		"otto's id is beyond a float64":             int64(float64(otto.GitHub.ID)) != otto.GitHub.ID,
		"otto's primary is beyond a page":           otto.GitHub.Emails[len(otto.GitHub.Emails)-1].Primary && len(otto.GitHub.Emails) > githubMaxPerPage,
		"otto's login is GitHub's longest":          len(otto.GitHub.Login) == 39,
	} {
		if !ok {
			t.Errorf("not so: %s", what)
		}
	}
}

func TestEmailIsTheMainAddress(t *testing.T) {
	want := map[string]string{
		"ann": "ann.lee@gmail.com", "bob": "bob@example.com", "cleo": "cleo@example.org", "mallory": "ann.lee@gmail.com", "uma": "uma@example.net",
		"nora": "40881256+nora-k@users.noreply.github.com",
	}
	for _, p := range DefaultPersonas() {
		if w, ok := want[p.Name]; ok && p.Email() != w {
			t.Errorf("%s: %s, want %s", p.Name, p.Email(), w)
		}
	}
	if got := (Persona{Facebook: &FacebookAccount{Email: "f@example.com"}}).Email(); got != "f@example.com" {
		t.Errorf("Facebook's: %q", got)
	}
}

// The sheet that tests in other languages read says all there is.
func TestPersonaSheet(t *testing.T) {
	w := newWorld(t)
	r := w.get(w.base + "/sandbox/personas")
	var sheet struct {
		Personas []Persona `json:"personas"`
	}
	if err := json.Unmarshal([]byte(r.body), &sheet); err != nil || r.status != http.StatusOK {
		t.Fatalf("%d: %v", r.status, err)
	}
	if d := cmp.Diff(DefaultPersonas(), sheet.Personas); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(DefaultPersonas(), w.Personas()); d != "" {
		t.Error(d)
	}
	if strings.Contains(r.body, `"uma","about":"has a Google account whose address was never verified","google":{"sub":"117302566180349920471","email":"uma@example.net","email_verified":false`) == false {
		t.Error("uma's sheet")
	}
}
