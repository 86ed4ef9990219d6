// A web app that signs people in through Portico, with golang.org/x/oauth2 and coreos/go-oidc. docs/integrate-an-app.md tells how
// to run it; examples/sampleapp is a longer one, with refresh and sign-out.
package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"html"
	"log"
	"net/http"
	"net/url"
	"os"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

func main() {
	issuer, app := env("ISSUER", "http://127.0.0.1:8080"), env("APP_URL", "http://127.0.0.1:3000")
	provider, err := oidc.NewProvider(context.Background(), issuer)
	if err != nil {
		log.Fatal(err)
	}
	config := oauth2.Config{
		ClientID: os.Getenv("CLIENT_ID"), ClientSecret: os.Getenv("CLIENT_SECRET"),
		Endpoint: provider.Endpoint(), RedirectURL: app + "/callback",
		Scopes: []string{oidc.ScopeOpenID, "profile", "email", oidc.ScopeOfflineAccess},
	}
	verifier := provider.Verifier(&oidc.Config{ClientID: config.ClientID})

	http.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, `<!doctype html><title>Example</title><p><a href="/login">Sign in</a></p>`)
	})
	http.HandleFunc("GET /login", func(w http.ResponseWriter, r *http.Request) {
		// What this sign-in is known by when it comes back. With https, these cookies want Secure too.
		state, nonce, pkce := rand.Text(), rand.Text(), oauth2.GenerateVerifier()
		for name, value := range map[string]string{"state": state, "nonce": nonce, "pkce": pkce} {
			http.SetCookie(w, &http.Cookie{Name: name, Value: value, Path: "/callback", MaxAge: 3600, HttpOnly: true, SameSite: http.SameSiteLaxMode})
		}
		http.Redirect(w, r, config.AuthCodeURL(state, oidc.Nonce(nonce), oauth2.S256ChallengeOption(pkce)), http.StatusSeeOther)
	})
	http.HandleFunc("GET /callback", func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		if state := cookie(r, "state"); state == "" || query.Get("state") != state {
			http.Error(w, "this sign-in was not started here", http.StatusBadRequest)
			return
		}
		if query.Get("iss") != issuer { // RFC 9207: the answer is the broker's and nobody else's
			http.Error(w, "this answer is from somebody else", http.StatusBadRequest)
			return
		}
		if code := query.Get("error"); code != "" {
			http.Error(w, code+": "+query.Get("error_description"), http.StatusForbidden)
			return
		}
		tokens, err := config.Exchange(r.Context(), query.Get("code"), oauth2.VerifierOption(cookie(r, "pkce")))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		raw, _ := tokens.Extra("id_token").(string)
		idToken, err := verifier.Verify(r.Context(), raw)
		if err != nil || idToken.Nonce != cookie(r, "nonce") {
			http.Error(w, "the ID token is not good", http.StatusBadGateway)
			return
		}
		var who struct{ Name string }
		if err := idToken.Claims(&who); err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		// Here a real app begins its own session, for the person whose id is idToken.Subject, and keeps tokens.RefreshToken.
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintf(w, `<!doctype html><title>Example</title><p>%s is signed in, as %s.</p>`, html.EscapeString(who.Name), html.EscapeString(idToken.Subject))
	})

	at, err := url.Parse(app)
	if err != nil {
		log.Fatal(err)
	}
	log.Println("the app is at", app)
	log.Fatal(http.ListenAndServe(at.Host, nil))
}

func env(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

func cookie(r *http.Request, name string) string {
	c, err := r.Cookie(name)
	if err != nil {
		return ""
	}
	return c.Value
}
