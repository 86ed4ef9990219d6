package config

import (
	"strings"
	"time"

	"github.com/portico-id/portico/broker/registry"
)

// Registered is the client as the registry takes it: what may be registered is checked there and nowhere else.
func (c *Client) Registered() registry.StaticClient {
	seconds := func(d Duration) int64 { return int64(d.Std() / time.Second) }
	var maxAge *int64
	if c.DefaultMaxAge > 0 {
		age := seconds(c.DefaultMaxAge)
		maxAge = &age
	}
	return registry.StaticClient{
		Secret: c.ClientSecret.Reveal(),
		Client: registry.Client{
			ID: c.ClientID, Name: c.Name, Website: c.Website, LogoURI: c.LogoURI,
			IsPublic:               c.Public,
			RedirectURIs:           c.RedirectURIs,
			PostLogoutRedirectURIs: c.PostLogoutRedirectURIs,
			Scopes:                 c.Scopes,
			GrantTypes:             c.GrantTypes,
			Connectors:             c.Connectors,
			FirstParty:             c.FirstParty,
			PKCEOptional:           c.PKCE == "optional",
			IDTokenAlg:             c.IDTokenSignedResponseAlg,
			UserinfoAlg:            c.UserinfoSignedResponseAlg,
			AccessTokenFormat:      c.AccessTokenFormat,
			AccessTokenTTL:         seconds(c.AccessTokenLifetime),
			RefreshIdleTTL:         seconds(c.RefreshIdleLifetime),
			RefreshTTL:             seconds(c.RefreshLifetime),

			AuthMethod:                c.TokenEndpointAuthMethod,
			AuthSigningAlg:            c.TokenEndpointAuthSigningAlg,
			JWKS:                      c.JWKS.Reveal(),
			JWKSURI:                   c.JWKSURI,
			TLSSubjectDN:              c.TLSClientAuthSubjectDN,
			TLSSANDNS:                 c.TLSClientAuthSANDNS,
			TLSSANURI:                 c.TLSClientAuthSANURI,
			TLSSANIP:                  c.TLSClientAuthSANIP,
			TLSSANEmail:               c.TLSClientAuthSANEmail,
			CertificateBound:          c.CertificateBoundAccessTokens,
			DPoPBound:                 c.DPoPBoundAccessTokens,
			RequirePAR:                c.RequirePushedAuthorizationRequests,
			RequireSignedRequest:      c.RequireSignedRequestObject,
			RequestSigningAlg:         c.RequestObjectSigningAlg,
			RequestURIs:               c.RequestURIs,
			DetailsTypes:              c.AuthorizationDetailsTypes,
			ResourceServerOf:          c.ResourceServerOf,
			TokenExchange:             tokenExchange(c.TokenExchange),
			DefaultMaxAge:             maxAge,
			RequireAuthTime:           c.RequireAuthTime,
			DefaultACRValues:          c.DefaultACRValues,
			Profile:                   c.Profile,
			SubjectType:               c.SubjectType,
			SectorIdentifierURI:       c.SectorIdentifierURI,
			IDTokenEncAlg:             c.IDTokenEncryptedResponseAlg,
			IDTokenEncEnc:             c.IDTokenEncryptedResponseEnc,
			BackchannelLogoutURI:      c.BackchannelLogoutURI,
			BackchannelLogoutSession:  c.BackchannelLogoutSessionRequired,
			FrontchannelLogoutURI:     c.FrontchannelLogoutURI,
			FrontchannelLogoutSession: c.FrontchannelLogoutSessionRequired,
			InitiateLoginURI:          c.InitiateLoginURI,
			Contacts:                  c.Contacts,
			PolicyURI:                 c.PolicyURI,
			TosURI:                    c.TosURI,
		},
	}
}

// Registered is the api as the registry takes it.
func (a *API) Registered() registry.API {
	api := registry.API{
		Identifier: a.Identifier, Name: a.Name,
		AccessTokenFormat: a.AccessTokenFormat, AccessTokenAlg: a.AccessTokenSigningAlg,
		AccessTokenTTL:     int64(a.AccessTokenLifetime.Std() / time.Second),
		AccessTokenInQuery: a.AccessTokenInQuery,
		SelfRegistered:     a.SelfRegistered,
		URL:                a.URL,
	}
	for _, scope := range a.Scopes {
		api.Scopes = append(api.Scopes, registry.Scope{Name: scope.Name, Sentence: scope.Sentence})
	}
	for _, kind := range a.AuthorizationDetailsTypes {
		details := registry.DetailsType{Type: kind.Type, Sentence: kind.Sentence}
		for _, field := range kind.Fields {
			details.Fields = append(details.Fields, registry.DetailsField{Name: field.Name, Required: field.Required, Values: field.Values})
		}
		api.DetailsTypes = append(api.DetailsTypes, details)
	}
	for _, e := range a.Endpoints {
		endpoint := registry.Endpoint{
			Method: e.Method, Path: e.Path, Scopes: e.Scopes, ACRValues: e.ACRValues, MaxAge: int64(e.MaxAge.Std() / time.Second),
			Public: e.Public, Denied: e.Denied,
		}
		for _, set := range e.Alternatives {
			endpoint.Alternatives = append(endpoint.Alternatives, strings.Fields(set))
		}
		api.Endpoints = append(api.Endpoints, endpoint)
	}
	return api
}

// tokenExchange is what a client may exchange, nil where the configuration says nothing.
func tokenExchange(t TokenExchange) *registry.TokenExchange {
	if len(t.SubjectClients)+len(t.ActorClients)+len(t.Modes)+len(t.Scopes) == 0 {
		return nil
	}
	return &registry.TokenExchange{SubjectClients: t.SubjectClients, ActorClients: t.ActorClients, Modes: t.Modes, Scopes: t.Scopes}
}
