package broker_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	coreos "github.com/coreos/go-oidc/v3/oidc"
	"github.com/zitadel/oidc/v3/pkg/client/rp"
	httphelper "github.com/zitadel/oidc/v3/pkg/http"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"golang.org/x/oauth2"

	. "github.com/portico-id/portico/broker/brokertest"
	"github.com/portico-id/portico/config"
	"github.com/portico-id/portico/examples/sampleapp"
)

// The client libraries that developers use, as their own documentation uses them: what they demand of a provider beyond
// what our own tests thought of, they demand here.

// serveApp serves an app whose redirect URI is registered for the client web.
func serveApp(t *testing.T, path string, edit ...func(*config.Config)) (app *httptest.Server, handle func(http.Handler), e *Env, client Client) {
	t.Helper()
	app, handle = Listening(t)
	client = Web
	client.RedirectURI = app.URL + path
	e = Start(t, append(edit, func(c *config.Config) {
		c.Clients[0].RedirectURIs = []string{client.RedirectURI}
		c.Clients[0].PostLogoutRedirectURIs = []string{app.URL + "/"}
	})...)
	return app, handle, e, client
}

func TestGoOAuth2AndCoreosGoOIDC(t *testing.T) {
	app, handle, e, client := serveApp(t, "/auth/callback")
	ctx := t.Context()

	provider, err := coreos.NewProvider(ctx, e.Issuer)
	if err != nil {
		t.Fatal(err)
	}
	config := oauth2.Config{
		ClientID:     client.ID,
		ClientSecret: client.Secret,
		Endpoint:     provider.Endpoint(),
		RedirectURL:  client.RedirectURI,
		Scopes:       []string{coreos.ScopeOpenID, "profile", "email", coreos.ScopeOfflineAccess},
	}
	verifier := oauth2.GenerateVerifier()
	var email string
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, config.AuthCodeURL("state", coreos.Nonce("nonce"), oauth2.S256ChallengeOption(verifier)), http.StatusFound)
	})
	mux.HandleFunc("/auth/callback", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("state") != "state" {
			t.Error("state did not match")
		}
		token, err := config.Exchange(r.Context(), r.URL.Query().Get("code"), oauth2.VerifierOption(verifier))
		if err != nil {
			t.Errorf("exchange: %v", err)
			return
		}
		rawIDToken, ok := token.Extra("id_token").(string)
		if !ok {
			t.Error("no id_token field in oauth2 token")
			return
		}
		idToken, err := provider.Verifier(&coreos.Config{ClientID: client.ID}).Verify(r.Context(), rawIDToken)
		if err != nil {
			t.Errorf("verify: %v", err)
			return
		}
		if idToken.Nonce != "nonce" {
			t.Error("nonce did not match")
		}
		if err := idToken.VerifyAccessToken(token.AccessToken); err != nil {
			t.Errorf("at_hash: %v", err)
		}
		var claims struct {
			Email    string `json:"email"`
			Verified bool   `json:"email_verified"`
		}
		if err := idToken.Claims(&claims); err != nil || !claims.Verified {
			t.Errorf("claims: %+v, %v", claims, err)
		}
		userInfo, err := provider.UserInfo(r.Context(), oauth2.StaticTokenSource(token))
		if err != nil || userInfo.Subject != idToken.Subject || userInfo.Email != claims.Email {
			t.Errorf("userinfo: %+v, %v", userInfo, err)
		}
		old := *token
		old.Expiry = time.Now().Add(-time.Hour)
		fresh, err := config.TokenSource(r.Context(), &old).Token()
		if err != nil || fresh.RefreshToken == token.RefreshToken || fresh.AccessToken == token.AccessToken {
			t.Errorf("refresh: %+v, %v", fresh, err)
		}
		email = claims.Email
		_, _ = io.WriteString(w, "signed in")
	})
	handle(mux)
	_, page := NewBrowser(t).Walk(app.URL+"/", "never")
	if page.Body != "signed in" || email != "ann.lee@gmail.com" {
		t.Errorf("ended at %s with %q: %s", page.URL, email, page.Body)
	}
}

func TestZitadelRelyingParty(t *testing.T) {
	for _, mode := range []oidc.ResponseMode{"", oidc.ResponseModeFormPost} {
		t.Run("response mode "+string(mode), func(t *testing.T) {
			app, handle, e, client := serveApp(t, "/auth/callback")
			key := []byte("test1234test1234")
			cookieHandler := httphelper.NewCookieHandler(key, key, httphelper.WithUnsecure(), httphelper.WithSameSite(http.SameSiteLaxMode))
			provider, err := rp.NewRelyingPartyOIDC(t.Context(), e.Issuer, client.ID, client.Secret, client.RedirectURI,
				[]string{"openid", "profile", "email", "offline_access"},
				rp.WithCookieHandler(cookieHandler),
				rp.WithVerifierOpts(rp.WithIssuedAtOffset(5*time.Second)),
				rp.WithSigningAlgsFromDiscovery(),
				rp.WithPKCE(cookieHandler),
			)
			if err != nil {
				t.Fatal(err)
			}
			urlOptions := []rp.URLParamOpt{rp.WithPromptURLParam("Welcome back!")}
			if mode != "" {
				urlOptions = append(urlOptions, rp.WithResponseModeURLParam(mode))
			}
			mux := http.NewServeMux()
			mux.Handle("/login", rp.AuthURLHandler(func() string { return "some-state" }, provider, urlOptions...))
			marshalUserinfo := func(w http.ResponseWriter, r *http.Request, tokens *oidc.Tokens[*oidc.IDTokenClaims], _ string, party rp.RelyingParty, info *oidc.UserInfo) {
				fresh, err := rp.RefreshTokens[*oidc.IDTokenClaims](r.Context(), party, tokens.RefreshToken, "", "")
				if err != nil || fresh.AccessToken == "" {
					t.Errorf("refresh: %v", err)
				}
				if err := rp.RevokeToken(r.Context(), party, fresh.RefreshToken, "refresh_token"); err != nil {
					t.Errorf("revoke: %v", err)
				}
				if _, err := rp.EndSession(r.Context(), party, tokens.IDToken, app.URL+"/", "bye", "", nil); err != nil {
					t.Errorf("end session: %v", err)
				}
				_ = json.NewEncoder(w).Encode(info)
			}
			mux.Handle("/auth/callback", rp.CodeExchangeHandler(rp.UserinfoCallback(marshalUserinfo), provider))
			handle(mux)
			_, page := NewBrowser(t).Walk(app.URL+"/login", "never")
			if page.Status != http.StatusOK || !strings.Contains(page.Body, `"email":"ann.lee@gmail.com"`) {
				t.Errorf("ended at %s (%d): %s", page.URL, page.Status, page.Body)
			}
		})
	}
}

// The sample app, as a person uses it: sign in, see the tokens, refresh, sign out.
func TestTheSampleApp(t *testing.T) {
	server, handle, e, client := serveApp(t, "/callback")
	app, err := sampleapp.New(sampleapp.Config{
		Issuer: e.Issuer, ClientID: client.ID, ClientSecret: client.Secret, URL: server.URL, Connectors: providers,
	})
	if err != nil {
		t.Fatal(err)
	}
	handle(app)
	for _, provider := range providers {
		t.Run(provider, func(t *testing.T) {
			b := NewBrowser(t)
			page := arrive(t, b, server.URL+"/login?idp_hint="+provider, server.URL+"/")
			for _, want := range []string{"Ann Lee", "email_verified", "&#34;active&#34;: true", "Signed in."} {
				if !strings.Contains(page.Body, want) {
					t.Errorf("the page does not say %q:\n%s", want, page.Body)
				}
			}
			refreshed := b.Get(page.Submit(0, "").Location().String())
			if !strings.Contains(refreshed.Body, "Refreshed:") {
				t.Fatalf("the refresh does not work:\n%s", refreshed.Body)
			}
			out := refreshed.Submit(1, "") // to the broker, and back
			for out.Location() != nil {
				out = b.Get(out.Location().String())
			}
			if out.URL.String() != server.URL+"/" || !strings.Contains(out.Body, "Signed out") {
				t.Errorf("signing out ends at %s:\n%s", out.URL, out.Body)
			}
			// The broker's session is over as well: signing in again asks which provider.
			again, _ := b.Walk(server.URL+"/login?"+url.Values{"prompt": {"none"}}.Encode(), server.URL+"/callback")
			if again == nil || again.Query().Get("error") != "login_required" {
				t.Errorf("after signing out the broker still knows the browser: %v", again)
			}
		})
	}
}

// arrive walks until the browser shows the page at the given address.
func arrive(t *testing.T, b *Browser, from, to string) *Page {
	t.Helper()
	location, page := b.Walk(from, to+"callback")
	if location == nil {
		t.Fatalf("ended at %s (%d)\n%s", page.URL, page.Status, page.Body)
	}
	page = b.Get(location.String())
	if page.Location() == nil {
		t.Fatalf("the app did not sign in: %s", page.Body)
	}
	return b.Get(page.Location().String())
}
