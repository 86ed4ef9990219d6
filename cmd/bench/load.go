package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"

	"golang.org/x/oauth2"
)

// connection is one keep-alive client that sees every redirect.
type connection struct{ transport *http.Transport }

func newConnection() *connection {
	return &connection{transport: &http.Transport{MaxIdleConnsPerHost: 2}}
}

// send sends a request and reads its whole response.
func (c *connection) send(r *http.Request, jar http.CookieJar) (status int, location string, body []byte, err error) {
	if jar != nil {
		for _, cookie := range jar.Cookies(r.URL) {
			r.AddCookie(cookie)
		}
	}
	response, err := c.transport.RoundTrip(r)
	if err != nil {
		return 0, "", nil, err
	}
	defer response.Body.Close()
	if jar != nil {
		jar.SetCookies(r.URL, response.Cookies())
	}
	body, err = io.ReadAll(response.Body)
	return response.StatusCode, response.Header.Get("Location"), body, err
}

func newRequest(method, target, form string) *http.Request {
	r, err := http.NewRequestWithContext(context.Background(), method, target, strings.NewReader(form))
	if err != nil {
		panic(err) // the URLs are ours
	}
	if form != "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return r
}

// tokens are what the token endpoint gives.
type tokens struct {
	Access  string `json:"access_token"`
	Type    string `json:"token_type"`
	Refresh string `json:"refresh_token"`
	ID      string `json:"id_token"`
}

func (c *connection) token(issuer string, form url.Values) (tokens, error) {
	return c.tokenWith(newRequest(http.MethodPost, issuer+"/token", form.Encode()))
}

func (c *connection) tokenWith(r *http.Request) (tokens, error) {
	r.SetBasicAuth(clientID, clientSecret)
	status, _, body, err := c.send(r, nil)
	if err != nil {
		return tokens{}, err
	}
	var t tokens
	if status != http.StatusOK {
		return t, fmt.Errorf("token: %d %s", status, body)
	}
	return t, json.Unmarshal(body, &t)
}

// accountScope is what a sign-in asks for.
const accountScope = "openid profile email offline_access"

// signIn is a whole login in a browser that has never been there: authorize, to the provider, back, and the code redeemed.
func (c *connection) signIn(issuer, provider, scope string) (tokens, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return tokens{}, err
	}
	verifier := oauth2.GenerateVerifier()
	next := issuer + "/authorize?" + url.Values{
		"response_type": {"code"}, "client_id": {clientID}, "redirect_uri": {redirectURI}, "scope": {scope},
		"state": {"state"}, "nonce": {"nonce"}, "idp_hint": {provider},
		"code_challenge": {oauth2.S256ChallengeFromVerifier(verifier)}, "code_challenge_method": {"S256"},
	}.Encode()
	for range 8 {
		status, location, body, err := c.send(newRequest(http.MethodGet, next, ""), jar)
		if err != nil {
			return tokens{}, err
		}
		if location == "" {
			return tokens{}, fmt.Errorf("login at %s: %d %.200s", next, status, body)
		}
		base, err := url.Parse(next)
		if err != nil {
			return tokens{}, err
		}
		to, err := base.Parse(location)
		if err != nil {
			return tokens{}, err
		}
		if next = to.String(); strings.HasPrefix(next, redirectURI) {
			return c.token(issuer, url.Values{
				"grant_type": {"authorization_code"}, "code": {to.Query().Get("code")}, "redirect_uri": {redirectURI}, "code_verifier": {verifier},
			})
		}
	}
	return tokens{}, errors.New("login: no end of redirects")
}

func login(alg, provider string) func(*world, int) (operation, error) {
	return func(w *world, _ int) (operation, error) {
		c, issuer := newConnection(), w.brokers[alg].url
		return func() error {
			_, err := c.signIn(issuer, provider, accountScope)
			return err
		}, nil
	}
}

func refresh(alg string) func(*world, int) (operation, error) {
	return func(w *world, _ int) (operation, error) {
		c, issuer := newConnection(), w.brokers[alg].url
		held, err := c.signIn(issuer, "github", accountScope)
		return func() error {
			fresh, err := c.token(issuer, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {held.Refresh}})
			if err == nil && fresh.Refresh == held.Refresh {
				err = errors.New("the refresh token did not rotate")
			}
			held = fresh
			return err
		}, err
	}
}

// boundRefresh is a refresh whose tokens are bound to a key: each sends a proof of its own.
func boundRefresh(alg string) func(*world, int) (operation, error) {
	return func(w *world, _ int) (operation, error) {
		c, issuer := newConnection(), w.brokers[alg].url
		key, err := newProofKey()
		if err != nil {
			return nil, err
		}
		held, err := c.signIn(issuer, "github", accountScope)
		return func() error {
			r := newRequest(http.MethodPost, issuer+"/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {held.Refresh}}.Encode())
			proof, err := key.prove(http.MethodPost, issuer+"/token")
			if err != nil {
				return err
			}
			r.Header.Set("DPoP", proof)
			fresh, err := c.tokenWith(r)
			if err == nil && fresh.Type != "DPoP" {
				err = fmt.Errorf("the token is of type %s", fresh.Type)
			}
			held = fresh
			return err
		}, err
	}
}

// grantOperation asks for a token with the same form again and again.
func grantOperation(alg string, form func(*connection, string) (url.Values, error)) func(*world, int) (operation, error) {
	return func(w *world, _ int) (operation, error) {
		c, issuer := newConnection(), w.brokers[alg].url
		values, err := form(c, issuer)
		return func() error {
			_, err := c.token(issuer, values)
			return err
		}, err
	}
}

func clientCredentials(alg string) func(*world, int) (operation, error) {
	return grantOperation(alg, func(*connection, string) (url.Values, error) {
		return url.Values{"grant_type": {"client_credentials"}, "scope": {apiScope}, "resource": {apiIdentifier}}, nil
	})
}

func opaqueCredentials(alg string) func(*world, int) (operation, error) {
	return grantOperation(alg, func(*connection, string) (url.Values, error) {
		return url.Values{"grant_type": {"client_credentials"}, "scope": {opaqueScope}, "resource": {opaqueIdentifier}}, nil
	})
}

func exchange(alg string) func(*world, int) (operation, error) {
	return grantOperation(alg, func(c *connection, issuer string) (url.Values, error) {
		held, err := c.signIn(issuer, "github", accountScope+" "+apiScope)
		return url.Values{
			"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "subject_token": {held.Access},
			"subject_token_type": {"urn:ietf:params:oauth:token-type:access_token"}, "scope": {apiScope}, "resource": {apiIdentifier},
		}, err
	})
}

func password(alg string) func(*world, int) (operation, error) {
	return grantOperation(alg, func(*connection, string) (url.Values, error) {
		return url.Values{"grant_type": {"password"}, "username": {username}, "password": {userPassword}, "scope": {"openid"}}, nil
	})
}

func push(alg string) func(*world, int) (operation, error) {
	return func(w *world, _ int) (operation, error) {
		c, issuer := newConnection(), w.brokers[alg].url
		form := url.Values{
			"response_type": {"code"}, "redirect_uri": {redirectURI}, "scope": {accountScope}, "state": {"state"},
			"code_challenge": {oauth2.S256ChallengeFromVerifier(oauth2.GenerateVerifier())}, "code_challenge_method": {"S256"},
		}.Encode()
		return func() error {
			r := newRequest(http.MethodPost, issuer+"/par", form)
			r.SetBasicAuth(clientID, clientSecret)
			status, _, body, err := c.send(r, nil)
			if err == nil && status != http.StatusCreated {
				err = fmt.Errorf("par: %d %s", status, body)
			}
			return err
		}, nil
	}
}

func introspect(alg string) func(*world, int) (operation, error) {
	return func(w *world, _ int) (operation, error) {
		c, issuer := newConnection(), w.brokers[alg].url
		held, err := c.signIn(issuer, "github", accountScope)
		form := url.Values{"token": {held.Access}}.Encode()
		return func() error {
			r := newRequest(http.MethodPost, issuer+"/introspect", form)
			r.SetBasicAuth(clientID, clientSecret)
			status, _, body, err := c.send(r, nil)
			if err == nil && (status != http.StatusOK || !bytes.Contains(body, []byte(`"active":true`))) {
				err = fmt.Errorf("introspection: %d %s", status, body)
			}
			return err
		}, err
	}
}

func userinfo(alg string) func(*world, int) (operation, error) {
	return func(w *world, _ int) (operation, error) {
		c, issuer := newConnection(), w.brokers[alg].url
		held, err := c.signIn(issuer, "github", accountScope)
		return func() error {
			r := newRequest(http.MethodGet, issuer+"/userinfo", "")
			r.Header.Set("Authorization", "Bearer "+held.Access)
			return expectOK(c.send(r, nil))
		}, err
	}
}

func get(alg, path string) func(*world, int) (operation, error) {
	return func(w *world, _ int) (operation, error) {
		c, target := newConnection(), w.brokers[alg].url+path
		return func() error { return expectOK(c.send(newRequest(http.MethodGet, target, ""), nil)) }, nil
	}
}

func floorOperation(path, form string) func(*world, int) (operation, error) {
	return func(w *world, _ int) (operation, error) {
		c, target, method := newConnection(), w.floor.url+path, http.MethodGet
		if form != "" {
			method = http.MethodPost
		}
		return func() error { return expectOK(c.send(newRequest(method, target, form), nil)) }, nil
	}
}

func expectOK(status int, _ string, body []byte, err error) error {
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("%d %.200s", status, body)
	}
	return err
}
