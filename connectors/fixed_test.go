package connectors

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func fixedSettings() Settings {
	return Settings{
		Name: "robot", Type: "fixed", InsecureSignsEveryoneIn: true,
		Profile: Profile{Subject: "robot-1", Email: "robot@example.com", EmailVerified: true, Name: "Robot", AMR: []string{"pwd"}},
	}
}

func TestTheFixedConnectorLeadsBackToItsOwnCallback(t *testing.T) {
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	c, err := New(fixedSettings(), Options{Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	if info := c.Info(); info.Type != "fixed" || info.DisplayName != "robot" {
		t.Errorf("it is %+v", info)
	}
	trip := Trip{RedirectURI: "https://login.example.com/callback/robot", State: "a.b+c", Nonce: "n", Verifier: "v"}
	raw, err := c.AuthorizeURL(t.Context(), trip)
	if err != nil {
		t.Fatal(err)
	}
	location, err := url.Parse(raw)
	if err != nil || !strings.HasPrefix(raw, trip.RedirectURI+"?") || location.Query().Get("state") != trip.State {
		t.Fatalf("it leads to %s, %v", raw, err)
	}
	got, err := c.Exchange(t.Context(), trip, location.Query())
	if err != nil {
		t.Fatal(err)
	}
	want := &Profile{
		Issuer: "urn:portico:fixed", Subject: "robot-1", Email: "robot@example.com", EmailVerified: true, Name: "Robot", AMR: []string{"pwd"}, AuthTime: now,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	got.AMR[0] = "changed"
	if again, err := c.Exchange(t.Context(), trip, location.Query()); err != nil || again.AMR[0] != "pwd" {
		t.Errorf("one caller's profile is another's: %+v, %v", again, err)
	}
	for name, callback := range map[string]url.Values{
		"no code":            {"state": {"s"}},
		"another code":       {"code": {"stolen"}, "state": {"s"}},
		"an error":           {"error": {"access_denied"}, "state": {"s"}},
		"another's issuer":   {"code": {"fixed"}, "iss": {"https://accounts.google.com"}, "state": {"s"}},
		"two codes":          {"code": {"fixed", "fixed"}, "state": {"s"}},
		"nothing in the URL": {},
	} {
		if p, err := c.Exchange(t.Context(), trip, callback); err == nil {
			t.Errorf("%s: signed in as %+v", name, p)
		}
	}
	if _, err := c.AuthorizeURL(t.Context(), Trip{RedirectURI: trip.RedirectURI}); err == nil {
		t.Error("a trip without a state is begun")
	}
}

// What this connector does must not come about by a mistake in the configuration.
func TestTheFixedConnectorIsNotMadeByMistake(t *testing.T) {
	for want, edit := range map[string]func(*Settings){
		"insecure_signs_everyone_in": func(s *Settings) { s.InsecureSignsEveryoneIn = false },
		"profile.subject":            func(s *Settings) { s.Profile.Subject = "" },
		"client_id":                  func(s *Settings) { s.ClientID = "id" },
		"client_secret":              func(s *Settings) { s.ClientSecret = "secret" },
		"scopes":                     func(s *Settings) { s.Scopes = []string{"email"} },
		"issuer":                     func(s *Settings) { s.Issuer = "https://id.example.com" },
		"profile: ":                  func(s *Settings) { s.Profile.Picture = "http://example.com/p.png" },
	} {
		s := fixedSettings()
		edit(&s)
		if err := s.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want words about %s", err, want)
		}
	}
	// Its keys turn no other connector into one.
	for _, s := range []Settings{
		{Name: "google", Type: "google", ClientID: "id", ClientSecret: "secret", InsecureSignsEveryoneIn: true},
		{Name: "google", Type: "google", ClientID: "id", ClientSecret: "secret", Profile: Profile{Subject: "1"}},
	} {
		if err := s.Validate(); err == nil {
			t.Errorf("%+v is accepted", s)
		}
	}
}
