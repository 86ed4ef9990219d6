package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/portico-id/portico/broker/resource"
)

// An API, as a process of its own, that broker/resource protects in each of its ways: what the middleware costs is the difference to /bare.

// The paths of the API process.
const (
	pathBare       = "/bare"
	pathJWT        = "/jwt"        // verified offline
	pathIntrospect = "/introspect" // asks the broker each time
	pathCached     = "/cached"     // asks the broker every few seconds
)

// runAPI serves until the process ends. It introspects as the client of the bench.
func runAPI(issuer, secret string) error {
	hello := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"hello":"world"}` + "\n")) // the only error is a client that hung up
	})
	mux := http.NewServeMux()
	mux.Handle(pathBare, hello)
	for path, o := range map[string]resource.Options{
		pathJWT:        {Issuer: issuer, Identifier: apiIdentifier},
		pathIntrospect: {Issuer: issuer, Identifier: opaqueIdentifier, ClientID: clientID, ClientSecret: secret, CacheFor: -1},
		pathCached:     {Issuer: issuer, Identifier: opaqueIdentifier, ClientID: clientID, ClientSecret: secret},
	} {
		api, err := resource.New(o)
		if err != nil {
			return err
		}
		scope := opaqueScope
		if path == pathJWT {
			scope = apiScope
		}
		mux.Handle(path, api.Protect(hello, scope))
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println("http://" + l.Addr().String())
	return (&http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}).Serve(l)
}

// apiToken is a token of the client itself for an api.
func (c *connection) apiToken(issuer, identifier string) (string, error) {
	held, err := c.token(issuer, url.Values{"grant_type": {"client_credentials"}, "resource": {identifier}}) // with all its scopes
	return held.Access, err
}

// callAPI calls the API process with a token for the api of that identifier; "" is without.
func callAPI(path, identifier string) func(*world, int) (operation, error) {
	return func(w *world, _ int) (operation, error) {
		c := newConnection()
		var authorization string
		if identifier != "" {
			held, err := c.apiToken(w.brokers["ES256"].url, identifier)
			if err != nil {
				return nil, err
			}
			authorization = "Bearer " + held
		}
		return func() error {
			r := newRequest(http.MethodGet, w.api.url+path, "")
			if authorization != "" {
				r.Header.Set("Authorization", authorization)
			}
			return expectOK(c.send(r, nil))
		}, nil
	}
}

// callAPIAnew calls the API process with a JWT that it has never seen: its signature has to be checked. The broker issues one for each call, which
// shows in the time and not in the API's CPU.
func callAPIAnew(w *world, _ int) (operation, error) {
	c := newConnection()
	return func() error {
		held, err := c.apiToken(w.brokers["ES256"].url, apiIdentifier)
		if err != nil {
			return err
		}
		r := newRequest(http.MethodGet, w.api.url+pathJWT, "")
		r.Header.Set("Authorization", "Bearer "+held)
		return expectOK(c.send(r, nil))
	}, nil
}

// forwardAuth asks as a reverse proxy does, for the endpoint that the api has registered.
func forwardAuth(identifier string) func(*world, int) (operation, error) {
	return func(w *world, _ int) (operation, error) {
		c, issuer := newConnection(), w.brokers["ES256"].url
		held, err := c.apiToken(issuer, identifier)
		target := issuer + "/forward-auth?" + url.Values{"api": {identifier}}.Encode()
		return func() error {
			r := newRequest(http.MethodGet, target, "")
			r.Header.Set("Authorization", "Bearer "+held)
			r.Header.Set("X-Forwarded-Method", http.MethodGet)
			r.Header.Set("X-Forwarded-Uri", "/notes/17?page=2")
			status, _, body, err := c.send(r, nil)
			if err == nil && len(body) > 0 && status == http.StatusOK {
				err = errors.New("forward-auth has a body")
			}
			return expectOK(status, "", body, err)
		}, err
	}
}
