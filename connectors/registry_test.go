package connectors

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

func TestTypes(t *testing.T) {
	if diff := cmp.Diff([]string{"facebook", "fixed", "github", "google", "oidc"}, Types()); diff != "" {
		t.Error(diff)
	}
}

func TestSettingsReadFromYAML(t *testing.T) {
	const file = `
name: work
type: github
display_name: Work
client_id: id
client_secret: secret
scopes: ["read:user", "user:email"]
timeout: 5s
base_url: https://git.example
api_url: https://git.example/api/v3
trust_email: true
`
	var s Settings
	d := yaml.NewDecoder(bytes.NewReader([]byte(file)))
	d.KnownFields(true)
	if err := d.Decode(&s); err != nil {
		t.Fatal(err)
	}
	want := Settings{
		Name: "work", Type: "github", DisplayName: "Work", ClientID: "id", ClientSecret: "secret", Scopes: []string{"read:user", "user:email"},
		Timeout: 5 * time.Second, BaseURL: "https://git.example", APIURL: "https://git.example/api/v3", TrustEmail: true,
	}
	if diff := cmp.Diff(want, s); diff != "" {
		t.Error(diff)
	}
	if err := s.Validate(); err != nil {
		t.Error(err)
	}
	c := mustNew(t, s)
	if diff := cmp.Diff(Info{Name: "work", Type: "github", DisplayName: "Work"}, c.Info()); diff != "" {
		t.Error(diff)
	}
}

func TestDisplayNamesDefaultToTheProviders(t *testing.T) {
	for kind, want := range map[string]string{"google": "Google", "facebook": "Facebook", "github": "GitHub", "oidc": "up"} {
		s := Settings{Type: kind}
		if kind == "oidc" {
			s.Issuer = "https://provider.example"
		}
		if got := mustNew(t, s).Info().DisplayName; got != want {
			t.Errorf("%s: %q", kind, got)
		}
	}
}

// An operator sees every wrong key at once, by its name.
func TestWrongSettingsAreRefusedByKey(t *testing.T) {
	good := func(change func(*Settings)) Settings {
		s := Settings{Name: "up", Type: "oidc", ClientID: "id", ClientSecret: "s3cret-value", Issuer: "https://provider.example"}
		change(&s)
		return s
	}
	of := func(kind string, change func(*Settings)) Settings {
		return good(func(s *Settings) { s.Type, s.Issuer = kind, ""; change(s) })
	}
	tests := []struct {
		name string
		s    Settings
		keys []string
	}{
		{"good", good(func(*Settings) {}), nil},
		{"good google", of("google", func(s *Settings) { s.HostedDomains = []string{"example.com"} }), nil},
		{"good public client", good(func(s *Settings) { s.AuthStyle, s.ClientSecret = "none", "" }), nil},
		{"good simulator", good(func(s *Settings) { s.Issuer = "http://127.0.0.1:9000/google" }), nil},
		{"good issuer with a slash", good(func(s *Settings) { s.Issuer = "https://tenant.example/" }), nil},
		{"everything missing", Settings{Type: "oidc"}, []string{"name", "client_id", "client_secret", "issuer"}},
		{"name", good(func(s *Settings) { s.Name = "Up!" }), []string{"name"}},
		{"type", good(func(s *Settings) { s.Type = "myspace" }), []string{"type"}},
		{"timeout", good(func(s *Settings) { s.Timeout = time.Hour }), []string{"timeout"}},
		{"scopes", good(func(s *Settings) { s.Scopes = []string{"openid email"} }), []string{"scopes"}},
		{"issuer over plain http", good(func(s *Settings) { s.Issuer = "http://provider.example" }), []string{"issuer"}},
		{"issuer that only looks like loopback", good(func(s *Settings) { s.Issuer = "http://127.0.0.1.evil.example" }), []string{"issuer"}},
		{"issuer with a query", good(func(s *Settings) { s.Issuer = "https://provider.example/?a=b" }), []string{"issuer"}},
		{"issuer with a user", good(func(s *Settings) { s.Issuer = "https://me@provider.example" }), []string{"issuer"}},
		{"auth_style", good(func(s *Settings) { s.AuthStyle = "header" }), []string{"auth_style"}},
		{"keys of github on oidc", good(func(s *Settings) { s.BaseURL, s.APIURL = "https://a.example", "https://a.example" }), []string{"base_url", "api_url"}},
		{"trust_email on facebook", of("facebook", func(s *Settings) { s.TrustEmail = true }), []string{"trust_email"}},
		{"trust_email on google", of("google", func(s *Settings) { s.TrustEmail = true }), []string{"trust_email"}},
		{"hosted_domains", of("google", func(s *Settings) { s.HostedDomains = []string{"@example.com"} }), []string{"hosted_domains"}},
		{"hosted_domains on oidc", good(func(s *Settings) { s.HostedDomains = []string{"example.com"} }), []string{"hosted_domains"}},
		{"graph_version", of("facebook", func(s *Settings) { s.GraphVersion = "../v1" }), []string{"graph_version"}},
		{"graph_url", of("facebook", func(s *Settings) { s.GraphURL = "ftp://graph.example" }), []string{"graph_url"}},
		{"dialog_url", of("facebook", func(s *Settings) { s.DialogURL = "https://" }), []string{"dialog_url"}},
		{"base_url", of("github", func(s *Settings) { s.BaseURL = "git.example" }), []string{"base_url"}},
		{"github.com's identities from another API", of("github", func(s *Settings) { s.APIURL = "https://evil.example" }), []string{"api_url"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.s.Validate()
			if len(tt.keys) == 0 {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil {
				t.Fatal("accepted")
			}
			for _, key := range tt.keys {
				if !strings.Contains(err.Error(), key+": ") {
					t.Errorf("%q does not name %s", err, key)
				}
			}
			if strings.Contains(err.Error(), "s3cret-value") {
				t.Errorf("the secret is in %q", err)
			}
		})
	}
}

func TestGitHubEnterpriseURLsAreDerived(t *testing.T) {
	c := mustNew(t, Settings{Type: "github", BaseURL: "https://Git.Example/"}).(*githubConnector)
	if c.baseURL != "https://git.example" || c.api.String() != "https://git.example/api/v3" || c.issuer != "https://git.example/login/oauth" || c.trustEmail {
		t.Errorf("%q %q %q %v", c.baseURL, c.api, c.issuer, c.trustEmail)
	}
}

func TestScopesOfOpenIDProvidersAlwaysContainOpenID(t *testing.T) {
	c := mustNew(t, Settings{Type: "google", Scopes: []string{"email"}}).(*openID)
	if diff := cmp.Diff([]string{"openid", "email"}, c.wanted); diff != "" {
		t.Error(diff)
	}
}
