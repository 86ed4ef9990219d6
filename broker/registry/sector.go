package registry

import (
	"net/url"
	"strings"
)

// Pairwise says whether the client sees people by a sub of its sector's own.
func (c *Client) Pairwise() bool { return c.SubjectType == SubjectPairwise }

// Sector is the host whose clients see a person by one pairwise sub (OpenID Connect Core section 8.1): that of sector_identifier_uri, or the one
// that all redirect URIs have. "" if there is none; Validate refuses a pairwise client without.
//
// An address on loopback or of a private-use scheme makes no sector: all native apps have such, and would share their people.
func (c *Client) Sector() string {
	if c.SectorIdentifierURI != "" {
		return sectorOf(c.SectorIdentifierURI)
	}
	sector := ""
	for i, uri := range c.RedirectURIs {
		host := sectorOf(uri)
		if host == "" || i > 0 && host != sector {
			return ""
		}
		sector = host
	}
	return sector
}

// sectorOf is a URI's host, without its port.
func sectorOf(uri string) string {
	u, err := url.Parse(uri)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || loopback(u.Hostname()) {
		return ""
	}
	return strings.ToLower(u.Hostname())
}
