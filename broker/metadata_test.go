package broker_test

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	. "github.com/portico-id/portico/broker/brokertest"
	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/config"
)

// Discovery and RFC 8414 metadata are one document, which lists what is on, all of it and nothing else: an app that is built from it finds every
// endpoint that it names, and no other.

// serverMetadata reads the document, which must be the same at both addresses.
func serverMetadata(t *testing.T, e *Env) map[string]any {
	t.Helper()
	var documents []map[string]any
	for _, path := range []string{"/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"} {
		r := Do(t, request(t, http.MethodGet, e.Issuer+path, "", ""))
		if r.Status != http.StatusOK {
			t.Fatalf("%s: %d", path, r.Status)
		}
		documents = append(documents, r.Body)
	}
	if diff := cmp.Diff(documents[0], documents[1]); diff != "" {
		t.Errorf("the two documents differ:\n%s", diff)
	}
	return documents[0]
}

// alwaysThere are the names that do not depend on the configuration.
var alwaysThere = []string{
	"acr_values_supported", "authorization_endpoint", "authorization_response_iss_parameter_supported", "claim_types_supported",
	"claims_parameter_supported", "claims_supported", "code_challenge_methods_supported", "dpop_signing_alg_values_supported",
	"end_session_endpoint", "grant_types_supported", "id_token_encryption_alg_values_supported", "id_token_encryption_enc_values_supported",
	"id_token_signing_alg_values_supported", "introspection_endpoint", "introspection_endpoint_auth_methods_supported",
	"introspection_endpoint_auth_signing_alg_values_supported", "issuer", "jwks_uri", "prompt_values_supported",
	"pushed_authorization_request_endpoint", "request_object_signing_alg_values_supported", "request_parameter_supported",
	"request_uri_parameter_supported", "require_pushed_authorization_requests", "require_request_uri_registration", "response_modes_supported",
	"response_types_supported", "revocation_endpoint", "revocation_endpoint_auth_methods_supported",
	"revocation_endpoint_auth_signing_alg_values_supported", "scopes_supported", "subject_types_supported", "token_endpoint",
	"token_endpoint_auth_methods_supported", "token_endpoint_auth_signing_alg_values_supported", "userinfo_endpoint", "userinfo_signing_alg_values_supported",
	"backchannel_logout_supported", "backchannel_logout_session_supported", "frontchannel_logout_supported", "frontchannel_logout_session_supported",
}

func TestMetadataListExactlyWhatIsOn(t *testing.T) {
	ca := newAuthority(t)
	for _, c := range []struct {
		name string
		edit func(*config.Config)
		more []string          // names beside those that are always there
		less []string          // of those, that are not there
		want map[string]string // values: a list's items separated by spaces
	}{
		{
			name: "as it comes", more: []string{"device_authorization_endpoint"},
			want: map[string]string{
				"grant_types_supported":                 "authorization_code client_credentials refresh_token " + registry.GrantDeviceCode + " " + registry.GrantTokenExchange,
				"token_endpoint_auth_methods_supported": "client_secret_basic client_secret_jwt client_secret_post none private_key_jwt",
				"scopes_supported":                      "email offline_access openid profile",
				"require_pushed_authorization_requests": "false",
			},
		},
		{
			name: "few grants", edit: func(c *config.Config) { c.GrantTypes = []string{"authorization_code", "password"} },
			want: map[string]string{"grant_types_supported": "authorization_code password"},
		},
		{
			name: "machines alone", edit: func(c *config.Config) {
				c.GrantTypes = []string{"client_credentials"}
			},
			less: []string{"authorization_endpoint", "pushed_authorization_request_endpoint"},
			want: map[string]string{"grant_types_supported": "client_credentials", "response_types_supported": ""},
		},
		{
			name: "issuers to trust",
			edit: func(c *config.Config) {
				c.TrustedIssuers = []config.TrustedIssuer{{
					Issuer: "https://ci.example.com", JWKSURI: "https://ci.example.com/jwks", Clients: []string{Web.ID}, Scopes: []string{"openid"}, Subject: config.SubjectAccount,
				}}
			},
			more: []string{"device_authorization_endpoint"},
			want: map[string]string{"grant_types_supported": "authorization_code client_credentials refresh_token " + registry.GrantDeviceCode + " " + registry.GrantJWTBearer + " " + registry.GrantTokenExchange},
		},
		{
			name: "apis", edit: withAPIs, more: []string{"device_authorization_endpoint", "authorization_details_types_supported"},
			want: map[string]string{
				"scopes_supported": "email mail:read notes:read notes:write offline_access openid profile", "authorization_details_types_supported": "payment",
			},
		},
		{
			name: "certificates",
			edit: func(c *config.Config) {
				c.MTLS = config.MTLS{Mode: config.MTLSProxy, Header: "Client-Cert", CAFile: ca.file(), URL: "https://mtls.example.com"}
				c.TrustedProxies = []string{"127.0.0.1"}
			},
			more: []string{"device_authorization_endpoint", "tls_client_certificate_bound_access_tokens", "mtls_endpoint_aliases"},
			want: map[string]string{
				"token_endpoint_auth_methods_supported": "client_secret_basic client_secret_jwt client_secret_post none private_key_jwt self_signed_tls_client_auth tls_client_auth",
			},
		},
		{
			name: "pushed requests alone", edit: func(c *config.Config) { c.RequirePushedAuthorizationRequests = true },
			more: []string{"device_authorization_endpoint"}, want: map[string]string{"require_pushed_authorization_requests": "true"},
		},
		{
			name: "session management", edit: func(c *config.Config) { c.SessionManagement = true },
			more: []string{"device_authorization_endpoint", "check_session_iframe"},
		},
		{
			name: "registration", edit: func(c *config.Config) { c.Registration.Mode = "open" },
			more: []string{"device_authorization_endpoint", "registration_endpoint"},
		},
		{
			name: "metadata documents", edit: func(c *config.Config) { c.ClientIDMetadata.Mode = "open" },
			more: []string{"device_authorization_endpoint", "client_id_metadata_document_supported"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := Start(t, func(cfg *config.Config) {
				if c.edit != nil {
					c.edit(cfg)
				}
			})
			document := serverMetadata(t, e)
			want := slices.DeleteFunc(slices.Concat(alwaysThere, c.more), func(name string) bool { return slices.Contains(c.less, name) })
			if diff := cmp.Diff(slices.Sorted(slices.Values(want)), slices.Sorted(maps.Keys(document))); diff != "" {
				t.Errorf("names (-want +got):\n%s", diff)
			}
			for name, want := range c.want {
				got := fmt.Sprint(document[name])
				if list, is := document[name].([]any); is {
					got = strings.Join(metadataList(list), " ")
				}
				if got != want {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
			checkEndpoints(t, e, document)
		})
	}
}

// checkEndpoints asks every endpoint that there may be: it is there where the metadata name it, and nowhere else.
func checkEndpoints(t *testing.T, e *Env, document map[string]any) {
	t.Helper()
	for name, path := range map[string]string{
		"authorization_endpoint": "/authorize", "token_endpoint": "/token", "userinfo_endpoint": "/userinfo", "jwks_uri": "/jwks.json",
		"introspection_endpoint": "/introspect", "revocation_endpoint": "/revoke", "end_session_endpoint": "/logout", "registration_endpoint": "/register",
		"pushed_authorization_request_endpoint": "/par", "device_authorization_endpoint": "/device_authorization", "check_session_iframe": "/check-session",
	} {
		method := http.MethodPost
		if slices.Contains([]string{"authorization_endpoint", "jwks_uri", "check_session_iframe", "userinfo_endpoint", "end_session_endpoint"}, name) {
			method = http.MethodGet
		}
		response, err := http.DefaultClient.Do(request(t, method, e.Issuer+path, url.Values{}.Encode(), "application/x-www-form-urlencoded"))
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		there := response.StatusCode != http.StatusNotFound && response.StatusCode != http.StatusMethodNotAllowed
		if named := document[name] == e.Issuer+path; there != named {
			t.Errorf("%s: the metadata say %v, and %s %s answers %d", name, document[name], method, path, response.StatusCode)
		}
	}
}
