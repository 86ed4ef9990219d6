package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"html"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/portico-id/portico/broker"
	"github.com/portico-id/portico/broker/brokertest"
	"github.com/portico-id/portico/config"
)

// What the plans of the OpenID Foundation's conformance suite ask, asked of the program over https with the files in examples/conformance,
// plan by plan. The suite itself is not here: docs/conformance.md says what its modules demand, and which test shows it.

const (
	conformanceFiles = "../../examples/conformance"
	// suiteAddress is where the files say that the suite is.
	suiteAddress = "https://localhost.emobix.co.uk:8443/test/a/portico"
	// assertionJWT is the type of client assertions (RFC 7523 section 2.2).
	assertionJWT = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
)

// plan is one run: a broker, and the suite beside it.
type plan struct {
	t *testing.T
	// issuer is the broker's, mtls its listener that asks for certificates, suite where the plan's alias is at the suite.
	issuer, mtls, suite string
	roots               *x509.CertPool
	client              *http.Client // without a certificate
	keys                map[int]*ecdsa.PrivateKey
	certified           map[int]*http.Client // with the certificate of client 1 or 2
	pages               *suitePages
}

// suitePages are what the suite serves, and what it was sent.
type suitePages struct {
	mu     sync.Mutex
	pages  map[string]suitePage
	posted chan url.Values
}

type suitePage struct{ contentType, body string }

func (s *suitePages) serve(path, contentType string, body any) {
	text, ok := body.(string)
	if !ok {
		raw, err := json.Marshal(body)
		if err != nil {
			panic(err)
		}
		text = string(raw)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pages[path] = suitePage{contentType, text}
}

func (s *suitePages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		_ = r.ParseForm()
		s.posted <- r.PostForm
		return
	}
	s.mu.Lock()
	page, ok := s.pages[strings.TrimPrefix(r.URL.Path, "/test/a/portico/")]
	s.mu.Unlock()
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", page.contentType)
	_, _ = io.WriteString(w, page.body)
}

// startConformance runs the program with a file of examples/conformance, its addresses replaced as its comment says.
func startConformance(t *testing.T, file string) *plan {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	p := &plan{t: t, keys: map[int]*ecdsa.PrivateKey{}, certified: map[int]*http.Client{}, pages: &suitePages{pages: map[string]suitePage{}, posted: make(chan url.Values, 8)}}
	suite := httptest.NewTLSServer(p.pages)
	t.Cleanup(suite.Close)
	p.suite = suite.URL + "/test/a/portico"
	if err := writePEM(filepath.Join(dir, "suite-ca.crt"), "CERTIFICATE", suite.Certificate().Raw); err != nil {
		t.Fatal(err)
	}
	p.roots = writeCertificate(t, filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"))
	p.client = p.with()
	authority, authorityKey := p.authority(filepath.Join(dir, "client-ca.crt"))
	for i, name := range map[int]string{1: "conformance-1", 2: "conformance-2"} {
		if p.keys[i], err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
		set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: p.keys[i].Public(), KeyID: name, Algorithm: "ES256", Use: "sig"}}})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, map[int]string{1: "client1", 2: "client2"}[i]+".jwks.json"), set, 0o600); err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
		der, err := x509.CreateCertificate(rand.Reader, template, authority, p.keys[i].Public(), authorityKey)
		if err != nil {
			t.Fatal(err)
		}
		p.certified[i] = p.with(tls.Certificate{Certificate: [][]byte{der}, PrivateKey: p.keys[i]})
	}
	var addresses [2]string
	for i := range addresses {
		port, err := freePort("127.0.0.1", 0)
		if err != nil {
			t.Fatal(err)
		}
		addresses[i] = (&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}).String()
	}
	p.issuer, p.mtls = "https://"+addresses[0], "https://"+addresses[1]
	text, err := os.ReadFile(filepath.Join(conformanceFiles, file))
	if err != nil {
		t.Fatal(err)
	}
	replaced := strings.NewReplacer("localhost:9443", addresses[0], "127.0.0.1:9443", addresses[0], "localhost:9444", addresses[1], "127.0.0.1:9444", addresses[1],
		suiteAddress, p.suite).Replace(string(text))
	if err := os.WriteFile(filepath.Join(dir, "portico.yaml"), []byte(replaced), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "serve", "--config", "portico.yaml")
	cmd.Dir = dir // the files beside it
	startServe(t, cmd, p.client, p.issuer)
	return p
}

// authority issues the clients' certificates.
func (p *plan) authority(file string) (*x509.Certificate, *ecdsa.PrivateKey) {
	p.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		p.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "clients' authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := writePEM(file, "CERTIFICATE", der); err != nil {
		p.t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		p.t.Fatal(err)
	}
	return certificate, key
}

// with is a client that shows certificates.
func (p *plan) with(certificates ...tls.Certificate) *http.Client {
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: p.roots, Certificates: certificates}}
	p.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func (p *plan) browser() *brokertest.Browser {
	b := brokertest.NewBrowser(p.t)
	b.Client.Transport = p.client.Transport
	return b
}

// said is an answer of the broker to the suite.
type said struct {
	status int
	header http.Header
	raw    string
	body   map[string]any
}

func (s *said) text(name string) string {
	text, _ := s.body[name].(string)
	return text
}

// ask sends a request; form, if there is one, as POST.
func (p *plan) ask(client *http.Client, method, target string, form url.Values, header http.Header) *said {
	p.t.Helper()
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	request, err := http.NewRequestWithContext(p.t.Context(), method, target, body)
	if err != nil {
		p.t.Fatal(err)
	}
	if form != nil {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for name, values := range header {
		request.Header[http.CanonicalHeaderKey(name)] = values
	}
	response, err := client.Do(request)
	if err != nil {
		p.t.Fatal(err)
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	answer := &said{status: response.StatusCode, header: response.Header, raw: string(raw)}
	if strings.HasPrefix(response.Header.Get("Content-Type"), "application/json") {
		if err := json.Unmarshal(raw, &answer.body); err != nil {
			p.t.Fatalf("%s: %v in %s", target, err, raw)
		}
	}
	return answer
}

func (p *plan) get(path string) *said {
	p.t.Helper()
	return p.ask(p.client, http.MethodGet, p.issuer+path, nil, nil)
}

// request is an authorization request as most modules send it; edits are "name", "value" pairs, and "" takes away.
func (p *plan) request(clientID string, edits ...string) url.Values {
	query := url.Values{
		"client_id": {clientID}, "response_type": {"code"}, "redirect_uri": {p.suite + "/callback"}, "scope": {"openid"}, "state": {"st-" + rand.Text()}, "nonce": {"no-" + rand.Text()},
	}
	return edited(query, edits)
}

func edited(form url.Values, edits []string) url.Values {
	for i := 0; i+1 < len(edits); i += 2 {
		if edits[i+1] == "" {
			form.Del(edits[i])
		} else {
			form.Set(edits[i], edits[i+1])
		}
	}
	return form
}

// answer is what comes back to the suite's redirect URI, from a browser that presses the first button of each page.
func (p *plan) answer(b *brokertest.Browser, query url.Values) url.Values {
	p.t.Helper()
	location, page := b.Walk(p.issuer+"/authorize?"+query.Encode(), p.suite+"/callback")
	if location == nil {
		p.t.Fatalf("it ended at %s (%d):\n%s", page.URL, page.Status, page.Body)
	}
	got := location.Query()
	if got.Get("state") != query.Get("state") || got.Get("iss") != p.issuer {
		p.t.Errorf("the answer's state or iss is wrong: %v", got)
	}
	return got
}

// refusedAtPage says that a request ends at a page of the broker's, and never at the suite.
func (p *plan) refusedAtPage(query url.Values) {
	p.t.Helper()
	location, page := p.browser().Walk(p.issuer+"/authorize?"+query.Encode(), p.suite)
	if location != nil || page.Status != http.StatusBadRequest || page.Body == "" {
		p.t.Errorf("%v ended at %v (%d)", query, location, page.Status)
	}
}

// secret is the client_secret of a client in the files.
func secret(clientID string) string { return clientID + "-secret-for-test-runs-only-0123456789" }

func basicAuth(clientID string) http.Header {
	return http.Header{"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(clientID)+":"+url.QueryEscape(secret(clientID))))}}
}

func (p *plan) codeForm(code string, edits ...string) url.Values {
	return edited(url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {p.suite + "/callback"}}, edits)
}

// redeem exchanges a code with client_secret_basic, and demands success.
func (p *plan) redeem(clientID, code string) *said {
	p.t.Helper()
	return p.good(p.ask(p.client, http.MethodPost, p.issuer+"/token", p.codeForm(code), basicAuth(clientID)))
}

func (p *plan) good(answer *said) *said {
	p.t.Helper()
	if answer.status != http.StatusOK && answer.status != http.StatusCreated {
		p.t.Fatalf("%d %s", answer.status, answer.raw)
	}
	return answer
}

// refused demands an error of a JSON answer, one of those that the module accepts.
func (p *plan) refused(what string, answer *said, codes ...string) {
	p.t.Helper()
	if answer.status != http.StatusBadRequest && answer.status != http.StatusUnauthorized || !slices.Contains(codes, answer.text("error")) {
		p.t.Errorf("%s: %d %s, want an error of %v", what, answer.status, answer.raw, codes)
	}
}

func bearerHeader(access string) http.Header {
	return http.Header{"Authorization": {"Bearer " + access}}
}

func (p *plan) userinfo(access string) *said {
	p.t.Helper()
	return p.ask(p.client, http.MethodGet, p.issuer+"/userinfo", nil, bearerHeader(access))
}

// signed is the payload of a JWT of the broker's, whose kid is published.
func (p *plan) signed(raw, alg string) map[string]any {
	p.t.Helper()
	var keys jose.JSONWebKeySet
	if err := json.Unmarshal([]byte(p.get("/jwks.json").raw), &keys); err != nil {
		p.t.Fatal(err)
	}
	parsed, err := jose.ParseSignedCompact(raw, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(alg)})
	if err != nil {
		p.t.Fatalf("not signed with %s: %v in %q", alg, err, raw)
	}
	key := keys.Key(parsed.Signatures[0].Protected.KeyID)
	if len(key) != 1 {
		p.t.Fatalf("%d published keys have the kid %q", len(key), parsed.Signatures[0].Protected.KeyID)
	}
	payload, err := parsed.Verify(key[0])
	if err != nil {
		p.t.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(payload, &claims); err != nil {
		p.t.Fatal(err)
	}
	return claims
}

// idToken checks an ID token as every module does (OpenID Connect Core section 3.1.3.7).
func (p *plan) idToken(tokens *said, alg, clientID string, query url.Values) map[string]any {
	p.t.Helper()
	claims := p.signed(tokens.text("id_token"), alg)
	now := float64(time.Now().Unix())
	issued, _ := claims["iat"].(float64)
	expires, _ := claims["exp"].(float64)
	nonce, _ := claims["nonce"].(string)
	sub, _ := claims["sub"].(string)
	if claims["iss"] != p.issuer || !holds(claims["aud"], clientID) || sub == "" || nonce != query.Get("nonce") || issued > now+5 || issued < now-60 || expires <= now {
		p.t.Errorf("claims %v", claims)
	}
	return claims
}

// holds says whether a claim that may be one text or a list holds a value.
func holds(claim any, value string) bool {
	if list, ok := claim.([]any); ok {
		return slices.Contains(list, any(value))
	}
	return claim == value
}

// signJWT makes a JWT of the suite's.
func (p *plan) signJWT(alg jose.SignatureAlgorithm, key any, kid, typ string, claims map[string]any) string {
	p.t.Helper()
	options := &jose.SignerOptions{EmbedJWK: kid == ""}
	if kid != "" {
		options.WithHeader("kid", kid)
	}
	if typ != "" {
		options.WithType(jose.ContentType(typ))
	}
	return brokertest.SignJWT(p.t, alg, key, options, claims)
}

// over changes claims; nil takes away.
func over(claims, changes map[string]any) map[string]any {
	for name, value := range changes {
		if value == nil {
			delete(claims, name)
		} else {
			claims[name] = value
		}
	}
	return claims
}

func TestConformanceConfigurationsAreGood(t *testing.T) {
	for _, file := range []string{"basic.yaml", "logout.yaml", "dynamic.yaml", "fapi2-dpop.yaml", "fapi2-mtls.yaml"} {
		raw, err := os.ReadFile(filepath.Join(conformanceFiles, file))
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		writeCertificate(t, filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key"))
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "1"}}})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "keys.json"), set, 0o600); err != nil {
			t.Fatal(err)
		}
		text := regexp.MustCompile(`\./\w+\.jwks\.json`).ReplaceAllString(string(raw), filepath.Join(dir, "keys.json"))
		text = regexp.MustCompile(`\./[\w-]+\.crt`).ReplaceAllString(text, filepath.Join(dir, "ca.crt"))
		cfg, err := config.Parse([]byte(text), file, nil)
		if err == nil {
			err = broker.Check(cfg)
		}
		if err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// Whoever renames or removes a test has to say in the guides that name it what shows the same now.
func TestTheGuidesNameTestsThatExist(t *testing.T) {
	for _, guide := range []string{"conformance.md", "security.md"} {
		t.Run(guide, func(t *testing.T) { namesTestsThatExist(t, "../../docs/"+guide) })
	}
}

func namesTestsThatExist(t *testing.T, path string) {
	guide, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	names := regexp.MustCompile("`([\\w/]+_test\\.go)`|`(Test\\w+)`")
	for line := range strings.Lines(string(guide)) {
		source := "" // of the file that was named last
		for _, name := range names.FindAllStringSubmatch(line, -1) {
			if name[1] != "" {
				raw, err := os.ReadFile(filepath.Join("../..", name[1]))
				if err != nil {
					t.Error(err)
				}
				source = string(raw)
				continue
			}
			named++
			if !strings.Contains(source, "\nfunc "+name[2]+"(t *testing.T) {") {
				t.Errorf("%s is not in the file that is named before it: %s", name[2], line)
			}
		}
	}
	if named == 0 {
		t.Error("the guide names no test")
	}
}

func TestConformanceBasicOP(t *testing.T) {
	p := startConformance(t, "basic.yaml")
	const one, two = "conformance-1", "conformance-2"
	metadata := p.good(p.get("/.well-known/openid-configuration"))
	b := p.browser()

	// oidcc-server, oidcc-idtoken-signature
	query := p.request(one)
	tokens := p.redeem(one, p.answer(b, query).Get("code"))
	first := p.idToken(tokens, "RS256", one, query)
	if tokens.text("token_type") != "Bearer" || tokens.body["expires_in"] == nil || tokens.header.Get("Cache-Control") != "no-store" {
		t.Errorf("the token response: %v %v", tokens.body, tokens.header)
	}
	// oidcc-userinfo-get, oidcc-userinfo-post-header, oidcc-userinfo-post-body
	access := tokens.text("access_token")
	for name, answer := range map[string]*said{
		"GET":         p.userinfo(access),
		"POST header": p.ask(p.client, http.MethodPost, p.issuer+"/userinfo", nil, bearerHeader(access)),
		"POST body":   p.ask(p.client, http.MethodPost, p.issuer+"/userinfo", url.Values{"access_token": {access}}, nil),
	} {
		if answer.status != http.StatusOK || answer.text("sub") != first["sub"] {
			t.Errorf("userinfo by %s: %d %s", name, answer.status, answer.raw)
		}
	}
	// oidcc-response-type-missing, oidcc-ensure-registered-redirect-uri
	if got := p.answer(b, p.request(one, "response_type", "")).Get("error"); got != "invalid_request" && got != "unsupported_response_type" {
		t.Errorf("without response_type: %q", got)
	}
	p.refusedAtPage(p.request(one, "redirect_uri", p.suite+"/callback/"+rand.Text()))
	// oidcc-ensure-request-without-nonce-succeeds-for-code-flow
	query = p.request(one, "nonce", "")
	p.idToken(p.redeem(one, p.answer(b, query).Get("code")), "RS256", one, query)
	// oidcc-scope-profile, oidcc-scope-email; oidcc-scope-address, oidcc-scope-phone and with them oidcc-scope-all are skipped
	info := p.userinfo(p.redeem(one, p.answer(p.browser(), p.request(one, "scope", "openid profile email")).Get("code")).text("access_token"))
	for _, name := range []string{
		"name", "given_name", "family_name", "middle_name", "nickname", "preferred_username", "profile", "picture", "website", "gender", "birthdate", "zoneinfo", "locale", "updated_at",
		"email", "email_verified",
	} {
		if info.body[name] == nil {
			t.Errorf("userinfo has no %s: %v", name, info.body)
		}
	}
	for _, scope := range []string{"address", "phone"} {
		if holds(metadata.body["scopes_supported"], scope) {
			t.Errorf("%s is in scopes_supported, so that its module is not skipped", scope)
		}
	}
	// Whatever else a request may say, it is answered: oidcc-ensure-other-scope-order-succeeds, oidcc-display-page, oidcc-display-popup,
	// oidcc-max-age-10000, oidcc-ensure-request-with-unknown-parameter-succeeds, oidcc-login-hint, oidcc-ui-locales, oidcc-claims-locales,
	// oidcc-ensure-request-with-acr-values-succeeds, oidcc-prompt-none-logged-in, oidcc-id-token-hint
	acr, _ := metadata.body["acr_values_supported"].([]any)
	if len(acr) == 0 {
		t.Fatal("no acr_values_supported")
	}
	for _, edits := range [][]string{
		{"scope", "email openid"},
		{"display", "page"},
		{"display", "popup"},
		{"max_age", "10000"},
		{"extra", "foobar"},
		{"login_hint", "robot@example.com"},
		{"ui_locales", "se"},
		{"claims_locales", "se"},
		{"acr_values", acr[0].(string)},
		{"prompt", "none"},
		{"prompt", "none", "id_token_hint", tokens.text("id_token")},
	} {
		query = p.request(one, edits...)
		claims := p.idToken(p.redeem(one, p.answer(b, query).Get("code")), "RS256", one, query)
		if claims["sub"] != first["sub"] || query.Has("max_age") && claims["auth_time"] != first["auth_time"] || query.Has("prompt") && claims["auth_time"] != first["auth_time"] {
			t.Errorf("%v: %v, first it was %v", edits, claims, first)
		}
	}
	// oidcc-prompt-none-not-logged-in
	if got := p.answer(p.browser(), p.request(one, "prompt", "none")).Get("error"); got != "login_required" {
		t.Errorf("prompt=none without a session: %q", got)
	}
	// oidcc-prompt-login, oidcc-max-age-1: there is a page to sign in on again.
	page := b.Get(p.issuer + "/authorize?" + p.request(one, "prompt", "login").Encode())
	if location := page.Location(); location != nil {
		page = b.Get(location.String())
	}
	if page.Status != http.StatusOK || len(page.Forms) == 0 {
		t.Errorf("prompt=login shows no page: %d %v", page.Status, page.Header)
	}
	query = p.request(one, "prompt", "login")
	claims := p.idToken(p.redeem(one, p.answer(b, query).Get("code")), "RS256", one, query)
	if claims["sub"] != first["sub"] || claims["auth_time"].(float64) < first["auth_time"].(float64) {
		t.Errorf("after prompt=login: %v", claims)
	}
	// oidcc-ensure-post-request-succeeds: a form on the suite's page, which is another site's.
	query = p.request(one)
	posted, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.issuer+"/authorize", strings.NewReader(query.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	posted.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	posted.Header.Set("Origin", strings.TrimSuffix(p.suite, "/test/a/portico"))
	posted.Header.Set("Sec-Fetch-Site", "cross-site")
	response, err := b.Client.Do(posted)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if location, err := response.Location(); err != nil {
		t.Errorf("a posted request: %d", response.StatusCode)
	} else if got, page := b.Walk(location.String(), p.suite+"/callback"); !strings.HasPrefix(location.String(), p.suite) && (got == nil || got.Query().Get("code") == "") {
		t.Errorf("a posted request ended at %v (%d)", got, page.Status)
	}
	// oidcc-codereuse, and what oidcc-codereuse-30seconds asks besides: the access token has ended.
	code := p.answer(b, p.request(one)).Get("code")
	access = p.redeem(one, code).text("access_token")
	p.refused("a code used twice", p.ask(p.client, http.MethodPost, p.issuer+"/token", p.codeForm(code), basicAuth(one)), "invalid_grant")
	if got := p.userinfo(access); got.status != http.StatusUnauthorized {
		t.Errorf("the access token of a code that was used twice: %d", got.status)
	}
	// oidcc-server-client-secret-post
	form := p.codeForm(p.answer(b, p.request(one)).Get("code"), "client_id", one, "client_secret", secret(one))
	p.good(p.ask(p.client, http.MethodPost, p.issuer+"/token", form, nil))
	// oidcc-claims-essential
	query = p.request(one, "claims", `{"userinfo":{"name":{"essential":true}}}`)
	tokens = p.redeem(one, p.answer(b, query).Get("code"))
	if got := p.userinfo(tokens.text("access_token")); got.text("name") == "" || p.idToken(tokens, "RS256", one, query)["name"] != nil {
		t.Errorf("the name asked for of userinfo: %v", got.body)
	}
	// oidcc-ensure-request-with-valid-pkce-succeeds
	code = p.answer(b, p.request(one, "code_challenge", brokertest.Challenge(brokertest.Verifier), "code_challenge_method", "S256")).Get("code")
	p.good(p.ask(p.client, http.MethodPost, p.issuer+"/token", p.codeForm(code, "code_verifier", brokertest.Verifier), basicAuth(one)))
	// oidcc-refresh-token
	refresh := func(clientID, token string) *said {
		return p.ask(p.client, http.MethodPost, p.issuer+"/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}}, basicAuth(clientID))
	}
	var last string
	for _, clientID := range []string{one, two} {
		query = p.request(clientID, "scope", "openid offline_access", "prompt", "consent")
		tokens = p.redeem(clientID, p.answer(b, query).Get("code"))
		before := p.idToken(tokens, "RS256", clientID, query)
		renewed := p.good(refresh(clientID, tokens.text("refresh_token")))
		after := p.idToken(renewed, "RS256", clientID, url.Values{})
		if after["sub"] != before["sub"] || after["auth_time"] != before["auth_time"] || p.userinfo(renewed.text("access_token")).status != http.StatusOK {
			t.Errorf("refreshed: %v, before: %v", after, before)
		}
		last = renewed.text("refresh_token")
	}
	p.refused("another client's refresh token", refresh(one, last), "invalid_grant")

	t.Run("request objects without a signature are skipped", func(t *testing.T) {
		if holds(metadata.body["request_object_signing_alg_values_supported"], "none") || holds(metadata.body["id_token_signing_alg_values_supported"], "none") {
			t.Error("none is offered")
		}
	})
}

func TestConformanceConfigOP(t *testing.T) {
	p := startConformance(t, "basic.yaml")
	metadata := p.get("/.well-known/openid-configuration")
	if metadata.status != http.StatusOK || metadata.header.Get("Content-Type") != "application/json" || metadata.text("issuer") != p.issuer {
		t.Fatalf("%d %v %s", metadata.status, metadata.header, metadata.raw)
	}
	for name, value := range metadata.body {
		if strings.HasSuffix(name, "_endpoint") || name == "jwks_uri" {
			if address, _ := value.(string); !strings.HasPrefix(address, "https://") {
				t.Errorf("%s is %v", name, value)
			}
		}
	}
	for name, value := range map[string]string{
		"response_types_supported": "code", "subject_types_supported": "public", "id_token_signing_alg_values_supported": "RS256", "grant_types_supported": "authorization_code",
		"scopes_supported": "openid", "code_challenge_methods_supported": "S256", "request_object_signing_alg_values_supported": "RS256", "userinfo_signing_alg_values_supported": "RS256",
		"claims_supported": "sub", "token_endpoint_auth_methods_supported": "client_secret_basic",
	} {
		if list, _ := metadata.body[name].([]any); !slices.Contains(list, any(value)) {
			t.Errorf("%s has no %s: %v", name, value, metadata.body[name])
		}
	}
	var keys struct{ Keys []map[string]any }
	if err := json.Unmarshal([]byte(p.get(strings.TrimPrefix(metadata.text("jwks_uri"), p.issuer)).raw), &keys); err != nil || len(keys.Keys) == 0 {
		t.Fatalf("keys: %v %v", keys, err)
	}
	seen := map[any]bool{}
	for _, key := range keys.Keys {
		if key["kid"] == nil || seen[key["kid"]] || key["d"] != nil || key["kty"] == "oct" {
			t.Errorf("the key %v", key)
		}
		seen[key["kid"]] = true
	}
}

func TestConformanceFormPostOP(t *testing.T) {
	p := startConformance(t, "basic.yaml")
	const one = "conformance-1"
	// posted is the page that posts to the suite.
	posted := func(b *brokertest.Browser, query url.Values) brokertest.Form {
		t.Helper()
		location, page := b.Walk(p.issuer+"/authorize?"+query.Encode(), p.suite+"/callback")
		if location == nil || page.Header.Get("Location") != "" || len(page.Forms) != 1 || !strings.EqualFold(page.Forms[0].Method, "post") || page.Forms[0].Action != p.suite+"/callback" {
			t.Fatalf("%v ended at %v (%d):\n%s", query, location, page.Status, page.Body)
		}
		if got := page.Forms[0].Fields; got.Get("state") != query.Get("state") || got.Get("iss") != p.issuer {
			t.Errorf("the form has %v", got)
		}
		return page.Forms[0]
	}
	query := p.request(one, "response_mode", "form_post")
	form := posted(p.browser(), query)
	p.idToken(p.redeem(one, form.Fields.Get("code")), "RS256", one, query)
	if form := posted(p.browser(), p.request(one, "response_mode", "form_post", "prompt", "none")); form.Fields.Get("error") != "login_required" {
		t.Errorf("an error: %v", form.Fields)
	}
}

// endSession opens the end of the session with parameters, and says where it leads: to the suite, or to a page.
func (p *plan) endSession(b *brokertest.Browser, query url.Values) (*url.URL, *brokertest.Page) {
	p.t.Helper()
	page := b.Get(p.issuer + "/logout?" + query.Encode())
	for range 5 {
		location := page.Location()
		if location == nil || strings.HasPrefix(location.String(), p.suite) {
			return location, page
		}
		page = b.Get(location.String())
	}
	return nil, page
}

// signedOut says whether the browser has no session any more.
func (p *plan) signedOut(b *brokertest.Browser, clientID string) bool {
	p.t.Helper()
	return p.answer(b, p.request(clientID, "prompt", "none")).Get("error") == "login_required"
}

// logoutRequest signs in, and is the request that signs out again.
func (p *plan) logoutRequest(b *brokertest.Browser, clientID string, edits ...string) (request url.Values, idToken map[string]any) {
	p.t.Helper()
	query := p.request(clientID)
	tokens := p.redeem(clientID, p.answer(b, query).Get("code"))
	return edited(url.Values{
		"id_token_hint": {tokens.text("id_token")}, "post_logout_redirect_uri": {p.suite + "/post_logout_redirect"}, "state": {strings.Repeat(rand.Text(), 5)[:128]},
	}, edits), p.idToken(tokens, "RS256", clientID, query)
}

func TestConformanceRPInitiatedLogoutOP(t *testing.T) {
	p := startConformance(t, "logout.yaml")
	const one = "conformance-1"
	if address := p.get("/.well-known/openid-configuration").text("end_session_endpoint"); address != p.issuer+"/logout" {
		t.Errorf("end_session_endpoint: %q", address)
	}
	for _, edits := range [][]string{nil, {"state", ""}} { // oidcc-rp-initiated-logout, …-no-state
		b := p.browser()
		request, _ := p.logoutRequest(b, one, edits...)
		location, page := p.endSession(b, request)
		if location == nil || location.Query().Get("state") != request.Get("state") || location.Query().Has("state") != request.Has("state") {
			t.Errorf("%v: it ended at %v (%d)", edits, location, page.Status)
		}
		if !p.signedOut(b, one) {
			t.Errorf("%v: the session goes on", edits)
		}
	}
	for name, edits := range map[string][]string{ // …-bad-post-logout-redirect-uri, …-query-added-to-post-logout-redirect-uri
		"another address": {"post_logout_redirect_uri", p.suite + "/bad"},
		"a query added":   {"post_logout_redirect_uri", p.suite + "/post_logout_redirect?foo=bar"},
	} {
		b := p.browser()
		request, _ := p.logoutRequest(b, one, edits...)
		if location, page := p.endSession(b, request); location != nil || page.Status != http.StatusBadRequest {
			t.Errorf("%s: it ended at %v (%d)", name, location, page.Status)
		}
	}
	{ // …-modified-id-token-hint, …-bad-id-token-hint
		b := p.browser()
		request, _ := p.logoutRequest(b, one)
		hint := request.Get("id_token_hint")
		for _, bad := range []string{hint[:len(hint)-10] + "AAAAAAAAAA", p.signJWT(jose.ES256, p.keys[1], "x", "JWT", map[string]any{"iss": p.issuer, "sub": "x", "aud": one, "iat": 1, "exp": 2})} {
			request.Set("id_token_hint", bad)
			if location, page := p.endSession(b, request); location != nil || page.Status != http.StatusBadRequest {
				t.Errorf("a hint that was changed: it ended at %v (%d)", location, page.Status)
			}
		}
	}
	for name, edits := range map[string][]string{ // …-no-id-token-hint, …-no-params, …-only-state: asked, not redirected
		"no hint":    {"id_token_hint", ""},
		"nothing":    {"id_token_hint", "", "post_logout_redirect_uri", "", "state", ""},
		"state only": {"id_token_hint", "", "post_logout_redirect_uri", ""},
	} {
		b := p.browser()
		request, _ := p.logoutRequest(b, one, edits...)
		location, page := p.endSession(b, request)
		if location != nil || page.Body == "" || p.signedOut(b, one) {
			t.Errorf("%s: it ended at %v (%d)", name, location, page.Status)
		}
	}
	{ // …-no-post-logout-redirect-uri
		b := p.browser()
		request, _ := p.logoutRequest(b, one, "post_logout_redirect_uri", "")
		location, page := p.endSession(b, request)
		if location != nil || page.Status != http.StatusOK || !strings.Contains(page.Body, "signed out") || !p.signedOut(b, one) {
			t.Errorf("without a way on: %v (%d)", location, page.Status)
		}
	}
}

func TestConformanceSessionManagementOP(t *testing.T) {
	p := startConformance(t, "logout.yaml")
	const one = "conformance-1"
	frame := p.get("/.well-known/openid-configuration").text("check_session_iframe")
	got := p.ask(p.client, http.MethodGet, frame, nil, nil)
	if got.status != http.StatusOK || got.header.Get("X-Frame-Options") != "" || !strings.Contains(got.raw, "<script") {
		t.Errorf("the frame at %q: %d %v", frame, got.status, got.header)
	}
	b := p.browser()
	first := p.answer(b, p.request(one)).Get("session_state")
	if hash, salt, _ := strings.Cut(first, "."); hash == "" || salt == "" {
		t.Errorf("session_state is %q", first)
	}
	if _, there := p.answer(b, p.request(one, "prompt", "none"))["session_state"]; !there {
		t.Error("no session_state with prompt=none")
	}
}

func TestConformanceBackChannelLogoutOP(t *testing.T) {
	p := startConformance(t, "logout.yaml")
	const two = "conformance-2"
	metadata := p.get("/.well-known/openid-configuration")
	if metadata.body["backchannel_logout_supported"] != true || metadata.body["backchannel_logout_session_supported"] != true {
		t.Errorf("metadata: %v", metadata.body)
	}
	b := p.browser()
	request, id := p.logoutRequest(b, two)
	if location, page := p.endSession(b, request); location == nil || location.Query().Get("state") != request.Get("state") {
		t.Errorf("it ended at %v (%d)", location, page.Status)
	}
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	select {
	case posted := <-p.pages.posted:
		claims := p.signed(posted.Get("logout_token"), "RS256")
		events, _ := claims["events"].(map[string]any)
		if len(posted) != 1 || claims["iss"] != p.issuer || !holds(claims["aud"], two) || claims["sub"] != id["sub"] || claims["sid"] != id["sid"] || claims["nonce"] != nil ||
			claims["jti"] == nil || claims["iat"] == nil || claims["exp"] == nil || events["http://schemas.openid.net/event/backchannel-logout"] == nil {
			t.Errorf("the logout token: %v; the ID token: %v", claims, id)
		}
	case <-ctx.Done():
		t.Error("no logout token came")
	}
	if !p.signedOut(b, two) {
		t.Error("the session goes on")
	}
}

func TestConformanceFrontChannelLogoutOP(t *testing.T) {
	p := startConformance(t, "logout.yaml")
	const three = "conformance-3"
	metadata := p.get("/.well-known/openid-configuration")
	if metadata.body["frontchannel_logout_supported"] != true || metadata.body["frontchannel_logout_session_supported"] != true {
		t.Errorf("metadata: %v", metadata.body)
	}
	b := p.browser()
	request, id := p.logoutRequest(b, three)
	location, page := p.endSession(b, request)
	if location != nil || page.Status != http.StatusOK {
		t.Fatalf("it ended at %v (%d)", location, page.Status)
	}
	found := regexp.MustCompile(`<iframe src="([^"]+)"`).FindStringSubmatch(page.Body)
	if found == nil {
		t.Fatalf("the page has no frame:\n%s", page.Body)
	}
	frame, err := url.Parse(html.UnescapeString(found[1]))
	if err != nil || !strings.HasPrefix(frame.String(), p.suite+"/frontchannel_logout?") || frame.Query().Get("iss") != p.issuer || frame.Query().Get("sid") != id["sid"] || len(frame.Query()) != 2 {
		t.Errorf("the frame is %v; the ID token: %v", frame, id)
	}
	// It goes on to the suite by itself, with the state.
	way := page.Header.Get("Refresh") + html.UnescapeString(page.Body)
	if !strings.Contains(way, p.suite+"/post_logout_redirect?state="+request.Get("state")) {
		t.Errorf("the page does not lead on: %q", page.Header.Get("Refresh"))
	}
	if !p.signedOut(b, three) {
		t.Error("the session goes on")
	}
}

func TestConformanceDynamicOP(t *testing.T) {
	p := startConformance(t, "dynamic.yaml")
	metadata := p.good(p.get("/.well-known/openid-configuration"))
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	set := func(kid string) jose.JSONWebKeySet {
		return jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: kid, Use: "sig", Algorithm: "RS256"}}}
	}
	register := func(changes map[string]any) *said {
		t.Helper()
		document, err := json.Marshal(over(map[string]any{
			"client_name": "Conformance", "grant_types": []string{"authorization_code"}, "response_types": []string{"code"}, "redirect_uris": []string{p.suite + "/callback"},
			"token_endpoint_auth_method": "private_key_jwt", "jwks": set("k1"), "contacts": []string{"certification@oidf.org"},
		}, changes))
		if err != nil {
			t.Fatal(err)
		}
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, metadata.text("registration_endpoint"), bytes.NewReader(document))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		response, err := p.client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		answer := &said{status: response.StatusCode}
		raw, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		answer.raw = string(raw)
		if err := json.Unmarshal(raw, &answer.body); err != nil {
			t.Fatalf("%v in %s", err, raw)
		}
		return answer
	}
	// assertion authenticates a client; most modules name the token endpoint as aud, oidcc-ensure-client-assertion-with-iss-aud-succeeds the issuer.
	assertion := func(id, kid, aud string) string {
		now := time.Now()
		return p.signJWT(jose.RS256, key, kid, "", map[string]any{"iss": id, "sub": id, "aud": aud, "jti": rand.Text(), "iat": now.Unix(), "exp": now.Add(time.Minute).Unix()})
	}
	redeem := func(id, kid, aud, code string, edits ...string) *said {
		form := p.codeForm(code, edits...)
		form.Set("client_assertion_type", assertionJWT)
		form.Set("client_assertion", assertion(id, kid, aud))
		return p.ask(p.client, http.MethodPost, metadata.text("token_endpoint"), form, nil)
	}
	endpoint := metadata.text("token_endpoint")
	whole := func(name string, registered *said, kid string, edits ...string) *said {
		t.Helper()
		id := p.good(registered).text("client_id")
		query := p.request(id, edits...)
		tokens := p.good(redeem(id, kid, endpoint, p.answer(p.browser(), query).Get("code")))
		p.idToken(tokens, "RS256", id, query)
		if registered.text("registration_client_uri") == "" || registered.text("registration_access_token") == "" {
			t.Errorf("%s: the registration: %v", name, registered.body)
		}
		return tokens
	}

	// oidcc-server, oidcc-idtoken-rs256, oidcc-ensure-client-assertion-with-iss-aud-succeeds, and the removal at the end of each module
	plain := register(nil)
	id := plain.text("client_id")
	whole("a plain one", plain, "k1")
	whole("with RS256 by name", register(map[string]any{"id_token_signed_response_alg": "RS256"}), "k1")
	p.good(redeem(id, "k1", p.issuer, p.answer(p.browser(), p.request(id)).Get("code")))
	// oidcc-userinfo-rs256
	answer := p.userinfo(whole("signed userinfo", register(map[string]any{"userinfo_signed_response_alg": "RS256"}), "k1").text("access_token"))
	if claims := p.signed(answer.raw, "RS256"); answer.header.Get("Content-Type") != "application/jwt" || claims["iss"] != p.issuer || claims["aud"] == nil || claims["sub"] == nil || claims["nonce"] != nil {
		t.Errorf("signed userinfo: %v", claims)
	}
	// oidcc-ensure-redirect-uri-in-authorization-request, oidcc-redirect-uri-query-ok, …-mismatch, …-added, …-regfrag
	p.refusedAtPage(p.request(id, "redirect_uri", ""))
	p.refusedAtPage(p.request(id, "redirect_uri", p.suite+"/callback?foo=bar"))
	// Errors are waited for at the suite, of clients that it registered as of others.
	if got := p.answer(p.browser(), p.request(id, "prompt", "none")); got.Get("error") != "login_required" {
		t.Errorf("an error: %v", got)
	}
	withQuery := register(map[string]any{"redirect_uris": []string{p.suite + "/callback?foo=bar"}}).text("client_id")
	got := p.answer(p.browser(), p.request(withQuery, "redirect_uri", p.suite+"/callback?foo=bar"))
	if got.Get("foo") != "bar" || got.Get("code") == "" {
		t.Errorf("with a query: %v", got)
	}
	p.good(redeem(withQuery, "k1", endpoint, got.Get("code"), "redirect_uri", p.suite+"/callback?foo=bar"))
	p.refusedAtPage(p.request(withQuery, "redirect_uri", p.suite+"/callback?bar=foo"))
	p.refused("a fragment", register(map[string]any{"redirect_uris": []string{p.suite + "/callback#foobar"}}), "invalid_redirect_uri")
	// oidcc-registration-logo-uri, …-policy-uri, …-tos-uri: a page shows them.
	shown := register(map[string]any{"logo_uri": p.suite + "/logo.png", "policy_uri": p.suite + "/policy", "tos_uri": p.suite + "/tos"}).text("client_id")
	b := p.browser()
	page := b.Get(p.issuer + "/authorize?" + p.request(shown).Encode())
	seen := ""
	for range 6 {
		seen += page.Body
		switch location := page.Location(); {
		case location != nil && strings.HasPrefix(location.String(), p.suite):
		case location != nil:
			page = b.Get(location.String())
			continue
		case strings.Contains(page.Body, "/policy"):
		default:
			page = page.Submit(0, "")
			continue
		}
		break
	}
	for _, address := range []string{"/logo.png", "/policy", "/tos"} {
		if !strings.Contains(seen, p.suite+address) {
			t.Errorf("no page shows %s", address)
		}
	}
	// oidcc-registration-jwks-uri
	p.pages.serve("jwks", "application/json", set("k2"))
	whole("keys at an address", register(map[string]any{"jwks": nil, "jwks_uri": p.suite + "/jwks"}), "k2")
	// oidcc-request-uri-signed-rs256
	byReference := p.suite + "/requesturi/" + strings.Repeat("r", 96)
	registered := p.good(register(map[string]any{"request_uris": []string{byReference}, "request_object_signing_alg": "RS256"}))
	id = registered.text("client_id")
	query := p.request(id)
	object := map[string]any{"iss": id, "aud": p.issuer}
	for name := range query {
		object[name] = query.Get(name)
	}
	p.pages.serve("requesturi/"+strings.Repeat("r", 96), "application/jose;charset=UTF-8", p.signJWT(jose.RS256, key, "k1", "", object))
	location, ended := p.browser().Walk(p.issuer+"/authorize?"+url.Values{"client_id": {id}, "response_type": {"code"}, "scope": {"openid"}, "request_uri": {byReference}}.Encode(), p.suite+"/callback")
	if location == nil || location.Query().Get("code") == "" || location.Query().Get("state") != query.Get("state") {
		t.Fatalf("a signed request by reference ended at %v (%d):\n%s", location, ended.Status, ended.Body)
	}
	p.idToken(p.good(redeem(id, "k1", endpoint, location.Query().Get("code"))), "RS256", id, query)
	// oidcc-refresh-token
	id = register(map[string]any{"grant_types": []string{"authorization_code", "refresh_token"}}).text("client_id")
	query = p.request(id, "scope", "openid offline_access", "prompt", "consent")
	tokens := p.good(redeem(id, "k1", endpoint, p.answer(p.browser(), query).Get("code")))
	p.idToken(p.good(p.ask(p.client, http.MethodPost, endpoint, url.Values{
		"grant_type": {"refresh_token"}, "refresh_token": {tokens.text("refresh_token")}, "client_assertion_type": {assertionJWT}, "client_assertion": {assertion(id, "k1", endpoint)},
	}, nil)), "RS256", id, url.Values{})
	// Each module removes its client again.
	if got := p.ask(p.client, http.MethodDelete, plain.text("registration_client_uri"), nil, bearerHeader(plain.text("registration_access_token"))); got.status != http.StatusNoContent {
		t.Errorf("removed: %d %s", got.status, got.raw)
	}
}

// fapi is a client of a FAPI 2.0 plan: how it authenticates and proves.
type fapi struct {
	*plan
	id     string
	http   *http.Client
	base   string
	i      int
	dpop   *ecdsa.PrivateKey // nil: its certificate binds
	fields map[string]any    // of its next assertion
	proofs map[string]any    // of its next proof
}

func (f *fapi) thumbprint() string {
	sum, err := (&jose.JSONWebKey{Key: f.dpop.Public()}).Thumbprint(crypto.SHA256)
	if err != nil {
		f.t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(sum)
}

// proof is a DPoP proof; with an access token it is for userinfo.
func (f *fapi) proof(method, target, access string) string {
	claims := map[string]any{"jti": rand.Text(), "htm": method, "htu": target, "iat": time.Now().Unix()}
	if access != "" {
		claims["ath"] = brokertest.TokenHash(access)
	}
	raw := f.signJWT(jose.ES256, f.dpop, "", "dpop+jwt", over(claims, f.proofs))
	f.proofs = nil
	return raw
}

// call sends a form to an endpoint as the client; proven says whether the key of the tokens is shown too.
func (f *fapi) call(path string, form url.Values, proven bool) *said {
	f.t.Helper()
	header := http.Header{}
	form.Set("client_id", f.id)
	if f.dpop != nil {
		now := time.Now()
		form.Set("client_assertion_type", assertionJWT)
		form.Set("client_assertion", f.signJWT(jose.ES256, f.keys[f.i], f.id, "", over(map[string]any{
			"iss": f.id, "sub": f.id, "aud": f.issuer, "jti": rand.Text(), "iat": now.Unix(), "exp": now.Add(time.Minute).Unix(),
		}, f.fields)))
		f.fields = nil
		if proven {
			header.Set("DPoP", f.proof(http.MethodPost, f.issuer+path, ""))
		}
	}
	client := f.http
	if f.dpop == nil && !proven && path != "/par" { // a request is pushed with the certificate that authenticates
		client = f.client
	}
	return f.ask(client, http.MethodPost, f.base+path, form, header)
}

func (f *fapi) pushed(edits ...string) url.Values {
	return f.request(f.id, append([]string{"code_challenge", brokertest.Challenge(brokertest.Verifier), "code_challenge_method", "S256"}, edits...)...)
}

func (f *fapi) open(reference string) url.Values {
	return url.Values{"client_id": {f.id}, "request_uri": {reference}}
}

// come pushes a request, and signs in with it.
func (f *fapi) come(b *brokertest.Browser, edits ...string) (answer, request url.Values) {
	f.t.Helper()
	request = f.pushed(edits...)
	push := f.call("/par", clone(request), false)
	if push.status != http.StatusCreated || push.text("request_uri") == "" || push.body["expires_in"] == nil {
		f.t.Fatalf("pushed: %d %s", push.status, push.raw)
	}
	location, page := b.Walk(f.issuer+"/authorize?"+f.open(push.text("request_uri")).Encode(), f.suite+"/callback")
	if location == nil {
		f.t.Fatalf("it ended at %s (%d):\n%s", page.URL, page.Status, page.Body)
	}
	answer = location.Query()
	if answer.Get("state") != request.Get("state") || answer.Get("iss") != f.issuer {
		f.t.Errorf("the answer %v to %v", answer, request)
	}
	return answer, request
}

func clone(form url.Values) url.Values {
	out := url.Values{}
	for name, values := range form {
		out[name] = slices.Clone(values)
	}
	return out
}

func (f *fapi) tokenForm(code string, edits ...string) url.Values {
	return f.codeForm(code, append([]string{"code_verifier", brokertest.Verifier}, edits...)...)
}

// info asks userinfo; scheme is how the token is sent.
func (f *fapi) info(scheme, access string) *said {
	f.t.Helper()
	header := http.Header{"Authorization": {scheme + " " + access}}
	if f.dpop != nil {
		header.Set("DPoP", f.proof(http.MethodGet, f.issuer+"/userinfo", access))
	}
	return f.ask(f.http, http.MethodGet, f.base+"/userinfo", nil, header)
}

// newFAPI is client 1 or 2 of a plan.
func newFAPI(p *plan, i int, certificates bool) *fapi {
	p.t.Helper()
	f := &fapi{plan: p, id: map[int]string{1: "conformance-1", 2: "conformance-2"}[i], http: p.client, base: p.issuer, i: i}
	if certificates {
		f.http, f.base = p.certified[i], p.mtls
		return f
	}
	var err error
	if f.dpop, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		p.t.Fatal(err)
	}
	return f
}

// fapiModules are those that do not depend on how a client authenticates.
func fapiModules(t *testing.T, one, two *fapi, scheme string) {
	t.Helper()
	tokenType := map[bool]string{true: "DPoP", false: "Bearer"}[one.dpop != nil]
	var of [2]string
	for n, f := range []*fapi{one, two} {
		// happy-flow, with the second client's redirect URI; …-without-nonce, …-64-char-nonce, other-scope-order
		edits := []string{"scope", "profile openid", "nonce", strings.Repeat("n", 64)}
		redirect := f.suite + "/callback"
		if f == two {
			redirect += "?dummy1=lorem&dummy2=ipsum"
			edits = append(edits, "redirect_uri", redirect, "state", strings.Repeat("s", 128))
		}
		answer, request := f.come(f.browser(), edits...)
		if f == two && (answer.Get("dummy1") != "lorem" || answer.Get("dummy2") != "ipsum") {
			t.Errorf("the redirect URI's own query: %v", answer)
		}
		tokens := f.good(f.call("/token", f.tokenForm(answer.Get("code"), "redirect_uri", redirect), true))
		f.idToken(tokens, "ES256", f.id, request)
		if tokens.text("token_type") != tokenType {
			t.Errorf("token_type %q", tokens.text("token_type"))
		}
		of[n] = tokens.text("access_token")
		if got := f.info(scheme, of[n]); got.status != http.StatusOK || got.text("sub") == "" {
			t.Errorf("userinfo: %d %s", got.status, got.raw)
		}
	}
	// access-token-type-header-case-sensitivity; client 2's token with client 1's key or certificate
	if got := one.info(strings.ToLower(scheme), of[0]); got.status != http.StatusOK {
		t.Errorf("userinfo in lower case: %d %s", got.status, got.raw)
	}
	if got := one.info(scheme, of[1]); got.status != http.StatusUnauthorized {
		t.Errorf("another client's token: %d", got.status)
	}
	// user-rejects-authentication
	for _, f := range []*fapi{one, two} {
		request := f.pushed("redirect_uri", f.suite+"/callback?dummy1=lorem&dummy2=ipsum")
		reference := f.good(f.call("/par", clone(request), false)).text("request_uri")
		b := f.browser()
		page := b.Get(f.issuer + "/authorize?" + f.open(reference).Encode())
		for page.Location() != nil {
			page = b.Get(page.Location().String())
		}
		page = page.Submit(len(page.Forms)-1, "Back to")
		location, ended := page.Walk(f.suite + "/callback")
		if location == nil || location.Query().Get("error") != "access_denied" || location.Query().Get("state") != request.Get("state") || location.Query().Get("dummy1") != "lorem" {
			t.Errorf("who goes back: %v (%d)", location, ended.Status)
		}
	}
	// …-without-state, …-long-state, …-long-nonce, state-only-outside-request-object-not-used, par-without-duplicate-parameters
	for _, edits := range [][]string{{"state", ""}, {"state", strings.Repeat("s", 384)}, {"nonce", strings.Repeat("n", 384)}, {"nonce", ""}} {
		if answer, _ := one.come(one.browser(), edits...); answer.Get("code") == "" {
			t.Errorf("%v: %v", edits, answer)
		}
	}
	reference := one.good(one.call("/par", one.pushed("state", ""), false)).text("request_uri")
	open := one.open(reference)
	open.Set("state", "outside")
	location, _ := one.browser().Walk(one.issuer+"/authorize?"+open.Encode(), one.suite+"/callback")
	if location == nil || location.Query().Get("code") == "" || location.Query().Has("state") {
		t.Errorf("a state that was not pushed: %v", location)
	}
	// par-attempt-reuse-request_uri, par-ensure-request-uri-is-bound-to-client, ensure-reused-request-uri-prior-to-auth-completion-succeeds
	reference = one.good(one.call("/par", one.pushed(), false)).text("request_uri")
	b := one.browser()
	b.Get(one.issuer + "/authorize?" + one.open(reference).Encode())
	if location, _ := b.Walk(one.issuer+"/authorize?"+one.open(reference).Encode(), one.suite+"/callback"); location == nil || location.Query().Get("code") == "" {
		t.Errorf("opened twice before the sign-in: %v", location)
	}
	for name, query := range map[string]url.Values{"used": one.open(reference), "another client's": two.open(one.good(one.call("/par", one.pushed(), false)).text("request_uri"))} {
		location, page := one.browser().Walk(one.issuer+"/authorize?"+query.Encode(), one.suite+"/callback")
		if location != nil && location.Query().Get("error") == "" || location == nil && page.Status != http.StatusBadRequest {
			t.Errorf("a reference that is %s: %v (%d)", name, location, page.Status)
		}
	}
	// par-reject-request_uri-in-par-authorization-form-params, ensure-pkce-required, ensure-plain-pkce-rejected, unregistered redirect URIs, none at all,
	// other response types
	for name, edits := range map[string][]string{
		"request_uri":     {"request_uri", reference},
		"no challenge":    {"code_challenge", "", "code_challenge_method", ""},
		"plain":           {"code_challenge", brokertest.Verifier, "code_challenge_method", "plain"},
		"redirect_uri":    {"redirect_uri", one.suite + "/callback/other"},
		"no redirect_uri": {"redirect_uri", ""},
		"code id_token":   {"response_type", "code id_token"},
		"token":           {"response_type", "token"},
	} {
		one.refused("pushed with "+name, one.call("/par", one.pushed(edits...), false), "invalid_request", "unsupported_response_type", "invalid_request_object", "unauthorized_client")
	}
	// par-reject-invalid-http-verb
	if got := one.ask(one.http, http.MethodGet, one.base+"/par", nil, nil); got.status != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d", got.status)
	}
	// ensure-unsigned-authorization-request-without-using-par-fails
	if got := one.answer(one.browser(), one.pushed()).Get("error"); got != "invalid_request" {
		t.Errorf("a request that was not pushed: %q", got)
	}
	// ensure-pkce-code-verifier-required, incorrect-pkce-code-verifier-rejected, ensure-authorization-code-is-bound-to-client,
	// ensure-holder-of-key-required, and then the code is as good as before
	answer, _ := one.come(one.browser(), "scope", "openid offline_access")
	code := answer.Get("code")
	one.refused("no verifier", one.call("/token", one.tokenForm(code, "code_verifier", ""), true), "invalid_request", "invalid_grant")
	one.refused("another verifier", one.call("/token", one.tokenForm(code, "code_verifier", brokertest.Verifier+"x"), true), "invalid_grant")
	two.refused("another client", two.call("/token", two.tokenForm(code), true), "invalid_grant")
	one.refused("no key or certificate", one.call("/token", one.tokenForm(code), false), "invalid_request", "invalid_grant", "invalid_dpop_proof", "invalid_client")
	tokens := one.good(one.call("/token", one.tokenForm(code), true))
	// refresh-token: it stays, works with the key alone, and for its client
	refresh := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {tokens.text("refresh_token")}}
	renewed := one.good(one.call("/token", clone(refresh), true))
	if renewed.text("refresh_token") != tokens.text("refresh_token") {
		t.Error("the refresh token has changed (FAPI 2.0 section 5.3.2.1 number 9)")
	}
	one.refused("a refresh without key or certificate", one.call("/token", clone(refresh), false), "invalid_request", "invalid_grant", "invalid_dpop_proof", "invalid_client")
	two.refused("another client's refresh token", two.call("/token", clone(refresh), true), "invalid_grant")
	// attempt-reuse-authorization-code-after-one-second
	one.refused("a code used twice", one.call("/token", one.tokenForm(code), true), "invalid_grant")
	if got := one.info(scheme, renewed.text("access_token")); got.status != http.StatusUnauthorized {
		t.Errorf("the access token of a code that was used twice: %d", got.status)
	}
	// test-claims-parameter-identity-claims
	answer, request := one.come(one.browser(), "claims", `{"id_token":{"name":null,"email":{"essential":true},"unknown":null},"userinfo":{"given_name":null,"birthdate":{"essential":false}}}`)
	tokens = one.good(one.call("/token", one.tokenForm(answer.Get("code")), true))
	claims, info := one.idToken(tokens, "ES256", one.id, request), one.info(scheme, tokens.text("access_token"))
	if claims["name"] == nil || claims["email"] == nil || claims["unknown"] != nil || info.text("given_name") == "" || info.text("birthdate") == "" {
		t.Errorf("claims by name: %v and %v", claims, info.body)
	}
	// The suites of TLS 1.2 (section 5.2.2): what is not recommended is refused.
	for _, address := range []string{one.issuer, one.base} {
		host := strings.TrimPrefix(address, "https://")
		if c, err := tls.Dial("tcp", host, &tls.Config{RootCAs: one.roots, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}}); err == nil {
			_ = c.Close()
			t.Errorf("%s speaks TLS 1.2 with CBC", host)
		}
		if c, err := tls.Dial("tcp", host, &tls.Config{RootCAs: one.roots, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}); err == nil {
			_ = c.Close()
			t.Errorf("%s speaks TLS 1.1", host)
		}
	}
}

func TestConformanceFAPI2PrivateKeyJWTAndDPoP(t *testing.T) {
	p := startConformance(t, "fapi2-dpop.yaml")
	metadata := p.get("/.well-known/openid-configuration")
	for name, value := range map[string]string{
		"dpop_signing_alg_values_supported": "ES256", "id_token_signing_alg_values_supported": "ES256", "token_endpoint_auth_signing_alg_values_supported": "PS256",
		"token_endpoint_auth_methods_supported": "private_key_jwt", "userinfo_signing_alg_values_supported": "ES256", "code_challenge_methods_supported": "S256",
	} {
		if !holds(metadata.body[name], value) {
			t.Errorf("%s has no %s: %v", name, value, metadata.body[name])
		}
	}
	one, two := newFAPI(p, 1, false), newFAPI(p, 2, false)
	fapiModules(t, one, two, "DPoP")

	// Assertions: the issuer as a text alone, and of the right time.
	now := time.Now()
	for name, c := range map[string]struct {
		fields map[string]any
		good   bool
	}{
		"8 seconds ahead": {map[string]any{"iat": now.Add(8 * time.Second).Unix(), "nbf": now.Add(8 * time.Second).Unix()}, true},
		"over 60 seconds": {map[string]any{"iat": now.Add(65 * time.Second).Unix(), "nbf": now.Add(65 * time.Second).Unix(), "exp": now.Add(5 * time.Minute).Unix()}, false},
		"expired":         {map[string]any{"exp": now.Add(-5 * time.Minute).Unix()}, false},
		"a list":          {map[string]any{"aud": []string{p.issuer, "https://other.example.com"}}, false},
		"PAR endpoint":    {map[string]any{"aud": p.issuer + "/par"}, false},
		"token endpoint":  {map[string]any{"aud": p.issuer + "/token"}, false},
		"another aud":     {map[string]any{"aud": "https://other.example.com"}, false},
		"no sub":          {map[string]any{"sub": nil}, false},
		"another client":  {map[string]any{"iss": two.id, "sub": two.id}, false},
	} {
		one.fields = c.fields
		got := one.call("/par", one.pushed(), false)
		if c.good {
			p.good(got)
			continue
		}
		p.refused("an assertion: "+name, got, "invalid_client", "invalid_request")
	}
	answer, _ := one.come(one.browser())
	form := one.tokenForm(answer.Get("code"))
	form.Set("client_id", one.id) // ensure-client-assertion-in-token-endpoint: none at all
	p.refused("no assertion", p.ask(p.client, http.MethodPost, p.issuer+"/token", form, http.Header{"Dpop": {one.proof(http.MethodPost, p.issuer+"/token", "")}}), "invalid_client", "invalid_request")

	// Codes bound to a key: by dpop_jkt, by a proof with the pushed request, and both at odds.
	answer, _ = one.come(one.browser(), "dpop_jkt", one.thumbprint())
	p.good(one.call("/token", one.tokenForm(answer.Get("code")), true))
	answer, _ = one.come(one.browser(), "dpop_jkt", two.thumbprint())
	p.refused("another key than dpop_jkt", one.call("/token", one.tokenForm(answer.Get("code")), true), "invalid_grant", "invalid_dpop_proof", "invalid_request")
	p.refused("dpop_jkt and a proof at odds", one.call("/par", one.pushed("dpop_jkt", two.thumbprint()), true), "invalid_request", "invalid_dpop_proof")

	// Proofs at userinfo.
	answer, _ = one.come(one.browser())
	access := p.good(one.call("/token", one.tokenForm(answer.Get("code")), true)).text("access_token")
	for name, c := range map[string]struct {
		claims map[string]any
		good   bool
	}{
		"10 seconds old":   {map[string]any{"iat": time.Now().Add(-10 * time.Second).Unix()}, true},
		"10 seconds ahead": {map[string]any{"iat": time.Now().Add(10 * time.Second).Unix()}, true},
		"with nbf and exp": {map[string]any{"nbf": time.Now().Unix(), "exp": time.Now().Add(5 * time.Minute).Unix()}, true},
		"a query in htu":   {map[string]any{"htu": p.issuer + "/userinfo?a=b#c"}, true},
		"further claims":   {map[string]any{"extra": "x"}, true},
		"an hour old":      {map[string]any{"iat": time.Now().Add(-time.Hour).Unix()}, false},
		"an hour ahead":    {map[string]any{"iat": time.Now().Add(time.Hour).Unix()}, false},
		"no jti":           {map[string]any{"jti": nil}, false},
		"no htm":           {map[string]any{"htm": nil}, false},
		"no htu":           {map[string]any{"htu": nil}, false},
		"no iat":           {map[string]any{"iat": nil}, false},
		"no ath":           {map[string]any{"ath": nil}, false},
		"another ath":      {map[string]any{"ath": base64.RawURLEncoding.EncodeToString(make([]byte, 32))}, false},
		"another htm":      {map[string]any{"htm": http.MethodPut}, false},
		"another address":  {map[string]any{"htu": "https://other.example.com/userinfo"}, false},
		"a jti of its own": {map[string]any{"jti": "fixed"}, true},
	} {
		one.proofs = c.claims
		if got := one.info("DPoP", access); got.status != http.StatusOK && c.good || got.status != http.StatusUnauthorized && got.status != http.StatusBadRequest && !c.good {
			t.Errorf("a proof: %s: %d %s", name, got.status, got.raw)
		}
	}
	one.proofs = map[string]any{"jti": "fixed"}
	if got := one.info("DPoP", access); got.status != http.StatusUnauthorized {
		t.Errorf("a jti used twice: %d", got.status)
	}
	if got := p.userinfo(access); got.status != http.StatusUnauthorized {
		t.Errorf("as a bearer token: %d", got.status)
	}
}

func TestConformanceFAPI2MutualTLS(t *testing.T) {
	p := startConformance(t, "fapi2-mtls.yaml")
	metadata := p.get("/.well-known/openid-configuration")
	aliases, _ := metadata.body["mtls_endpoint_aliases"].(map[string]any)
	if metadata.body["tls_client_certificate_bound_access_tokens"] != true || !holds(metadata.body["token_endpoint_auth_methods_supported"], "tls_client_auth") ||
		aliases["token_endpoint"] != p.mtls+"/token" || aliases["pushed_authorization_request_endpoint"] != p.mtls+"/par" || aliases["userinfo_endpoint"] != p.mtls+"/userinfo" {
		t.Errorf("metadata: %v", metadata.body)
	}
	one, two := newFAPI(p, 1, true), newFAPI(p, 2, true)
	fapiModules(t, one, two, "Bearer")

	// ensure-client-id-in-token-endpoint: client 2's id with client 1's certificate.
	answer, _ := one.come(one.browser())
	form := one.tokenForm(answer.Get("code"))
	form.Set("client_id", two.id)
	p.refused("another client's certificate", p.ask(one.http, http.MethodPost, p.mtls+"/token", form, nil), "invalid_client", "invalid_grant")
}
