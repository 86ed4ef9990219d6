package registry

import (
	"strings"
	"testing"
)

// OpenID Connect Core section 8.1: a sector is one host, and no host that strangers share.
func TestSector(t *testing.T) {
	for _, c := range []struct {
		name     string
		sector   string
		redirect []string
		want     string
	}{
		{"one redirect URI", "", []string{"https://app.example.com/callback"}, "app.example.com"},
		{"several on one host", "", []string{"https://app.example.com/a", "https://app.example.com:8443/b"}, "app.example.com"},
		{"several hosts", "", []string{"https://a.example.com/", "https://b.example.com/"}, ""},
		{"several hosts, and a sector", "https://example.com/sector.json", []string{"https://a.example.com/", "https://b.example.com/"}, "example.com"},
		{"a sector in another case", "https://EXAMPLE.com/sector.json", nil, "example.com"},
		{"loopback", "", []string{"http://127.0.0.1/callback"}, ""},
		{"localhost", "", []string{"http://localhost:3000/callback"}, ""},
		{"a private-use scheme", "", []string{"com.example.app:/callback"}, ""},
		{"a host and a private-use scheme", "", []string{"https://app.example.com/callback", "com.example.app:/callback"}, ""},
		{"a private-use scheme and a host", "", []string{"com.example.app:/callback", "https://app.example.com/callback"}, ""},
		{"a native app with a sector", "https://example.com/sector.json", []string{"com.example.app:/callback"}, "example.com"},
		{"nothing", "", nil, ""},
	} {
		client := Client{RedirectURIs: c.redirect, SectorIdentifierURI: c.sector, SubjectType: SubjectPairwise, Name: "App", Scopes: []string{"openid"}, GrantTypes: []string{GrantClientCredentials}}
		if got := client.Sector(); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		err := client.Validate()
		if refused := err != nil && strings.Contains(err.Error(), "sector_identifier_uri"); refused != (c.want == "") {
			t.Errorf("%s: validation says %v", c.name, err)
		}
		client.SubjectType = ""
		if err := client.Validate(); err != nil && strings.Contains(err.Error(), "sector_identifier_uri") {
			t.Errorf("%s: a client of public subjects needs no sector: %v", c.name, err)
		}
	}
}
