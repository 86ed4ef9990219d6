package oauth

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/portico-id/portico/broker/registry"
)

// maxSector bounds the document at a sector_identifier_uri: a thousand redirect URIs.
const maxSector = 64 << 10

// judgeSector checks that whoever owns the sector identifier says that all the redirect URIs are theirs (OpenID Connect Registration
// section 5): a client that could name any sector would see people there as its apps see them.
func (s *Server) judgeSector(ctx context.Context, client *registry.Client) *Error {
	response, err := s.fetch.Get(ctx, client.SectorIdentifierURI, "application/json", maxSector)
	if err != nil {
		return refuse(codeInvalidClientMetadata, "sector_identifier_uri: what is there cannot be read").because(err)
	}
	var uris []string
	if err := json.Unmarshal(response.Body, &uris); err != nil {
		return refuse(codeInvalidClientMetadata, "sector_identifier_uri: what is there is not a JSON list of redirect URIs").because(err)
	}
	for _, uri := range client.RedirectURIs {
		if !slices.Contains(uris, uri) {
			return refuse(codeInvalidClientMetadata, "sector_identifier_uri: the list there does not have the redirect URI '%s'", echo(uri))
		}
	}
	return nil
}
