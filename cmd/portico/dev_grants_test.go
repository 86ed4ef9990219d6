package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/portico-id/portico/broker/brokertest"
	"github.com/portico-id/portico/broker/token"
)

func (d *dev) client(name string) brokertest.Client {
	c := d.Clients[name]
	return brokertest.Client{ID: c.ClientID, Secret: c.ClientSecret}
}

// grant asks for tokens, and demands them.
func (d *dev) grant(t *testing.T, client string, form url.Values) *brokertest.Response {
	t.Helper()
	r := d.env().Post(t, "/token", d.client(client), form)
	if r.Status != http.StatusOK {
		t.Fatalf("%s by %s: %d %v", form.Get("grant_type"), client, r.Status, r.Body)
	}
	return r
}

// Everything is on in development, and what it takes to try it is in the line.
func TestDevHasEveryGrantOn(t *testing.T) {
	d := startDev(t, "--addr", "127.0.0.1:0", "--auto", "ann")
	password := func(form url.Values) *brokertest.Response {
		form.Set("grant_type", "password")
		form.Set("password", d.Personas[0].Password)
		return d.grant(t, "trusted", form)
	}
	service := d.grant(t, "service", url.Values{"grant_type": {"client_credentials"}})
	if service.String("scope") != "notes:read notes:write" {
		t.Errorf("the service gets %v", service.Body)
	}
	person := password(url.Values{"username": {d.Personas[0].Name}})
	same := password(url.Values{"username": {d.Personas[0].Email}, "scope": {"openid"}})
	if a, b := d.env().Subject(t, person.String("access_token")), d.env().Subject(t, same.String("access_token")); a != b || a != d.TrustedIssuer["subject"] {
		t.Errorf("by name the account is %s, by email %s, want %s", a, b, d.TrustedIssuer["subject"])
	}

	exchanged := d.grant(t, "trusted", url.Values{
		"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "scope": {"notes:read"},
		"subject_token": {person.String("access_token")}, "subject_token_type": {"urn:ietf:params:oauth:token-type:access_token"},
		"actor_token": {service.String("access_token")}, "actor_token_type": {"urn:ietf:params:oauth:token-type:access_token"},
	})
	if exchanged.String("scope") != "notes:read" {
		t.Errorf("the exchange gives %v", exchanged.Body)
	}
	// What an app got for a person, the trusted app may exchange.
	web := d.env().SignIn(t, brokertest.NewBrowser(t), d.web(), "idp_hint", "google")
	d.grant(t, "trusted", url.Values{
		"grant_type":    {"urn:ietf:params:oauth:grant-type:token-exchange"},
		"subject_token": {web.String("access_token")}, "subject_token_type": {"urn:ietf:params:oauth:token-type:access_token"},
	})

	d.grant(t, "trusted", url.Values{
		"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "scope": {"notes:read"}, "assertion": {d.assertion(t)},
	})

	device := d.env().Post(t, "/device_authorization", d.client("native"), url.Values{"scope": {"openid"}})
	if device.Status != http.StatusOK || device.String("user_code") == "" {
		t.Errorf("device authorization: %d %v", device.Status, device.Body)
	}
}

// assertion is the trusted issuer's word for the first persona's account.
func (d *dev) assertion(t *testing.T) string {
	t.Helper()
	key := readKey(t, d.TrustedIssuer["key_file"])
	now := time.Now()
	return brokertest.SignJWT(t, jose.SignatureAlgorithm(d.TrustedIssuer["alg"]), key, nil, map[string]any{
		"iss": d.TrustedIssuer["issuer"], "sub": d.TrustedIssuer["subject"], "aud": d.Issuer, "jti": token.NewID(),
		"iat": now.Unix(), "exp": now.Add(time.Minute).Unix(),
	})
}

func readKey(t *testing.T, file string) *ecdsa.PrivateKey {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(raw)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key.(*ecdsa.PrivateKey)
}

// An app that nobody registered registers itself, authenticates with a certificate that development's authority issued, and has its tokens bound to it.
func TestDevRegistersAppsAndTakesTheirCertificates(t *testing.T) {
	d := startDev(t, "--addr", "127.0.0.1:0")
	authority, err := tls.LoadX509KeyPair(d.MTLS["ca_file"], d.MTLS["ca_key_file"])
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(map[string]any{
		"client_name": "Certified", "grant_types": []string{"client_credentials"}, "redirect_uris": []string{}, "response_types": []string{},
		"token_endpoint_auth_method": "tls_client_auth", "tls_client_auth_subject_dn": "CN=portico dev", "scope": "notes:read",
		"tls_client_certificate_bound_access_tokens": true,
	})
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.Post(d.Issuer+"/register", "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := io.ReadAll(response.Body)
	response.Body.Close()
	var registered struct {
		ClientID string `json:"client_id"`
	}
	if err := json.Unmarshal(raw, &registered); err != nil || response.StatusCode != http.StatusCreated {
		t.Fatalf("registration: %d %s %v", response.StatusCode, raw, err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(authority.Leaf)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{authority}}}}
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {registered.ClientID}}
	response, err = client.Post(d.MTLS["url"]+"/token", "application/x-www-form-urlencoded", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	raw, _ = io.ReadAll(response.Body)
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Errorf("a token for a certificate: %d %s", response.StatusCode, raw)
	}
	// Without it there is none, whoever knows the id.
	if r := d.env().Post(t, "/token", brokertest.Client{ID: registered.ClientID}, form); r.String("error") != "invalid_client" {
		t.Errorf("without the certificate: %d %v", r.Status, r.Body)
	}
}
