package oauth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf16"

	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/broker/resource"
	"github.com/portico-id/portico/broker/resource/challenge"
)

// The forward-auth endpoint answers reverse proxies that ask about each request before they pass it on: nginx (auth_request), Traefik
// (ForwardAuth), Caddy (forward_auth), Envoy (ext_authz). It finds the api and its endpoint, and hands the request, put together anew, to the
// middleware that APIs in Go use; so both doors answer alike. What is not registered is denied.

// The headers of a yes. A proxy sets them on the request that it passes on. All are there each time, empty where there is nothing to say, so
// that they replace what the sender made up.
const (
	headerAuthSubject  = "X-Auth-Subject"
	headerAuthClientID = "X-Auth-Client-Id"
	headerAuthScope    = "X-Auth-Scope"
	headerAuthAPI      = "X-Auth-Api"
	headerAuthACR      = "X-Auth-Acr"
	headerAuthTime     = "X-Auth-Time"
	headerAuthExpires  = "X-Auth-Expires"
	headerAuthActor    = "X-Auth-Actor"
	headerAuthDetails  = "X-Auth-Details"
)

// guards are what protects the apis of one generation of the registry.
type guards struct {
	generation uint64
	list       []*guard // as the registry has them, the configuration's first
	byID       map[string]*guard
	byHost     map[string][]*guard // of those with a URL, the longest path first
}

// guard protects one api.
type guard struct {
	api          *registry.API
	scheme, path string // of its URL; both may be empty
	options      resource.Options
	metadata     http.Handler
	doors        map[*registry.Endpoint]http.Handler // of those that a token opens
}

// guarding are the guards of the apis as they are now.
type guarding struct {
	mu      sync.Mutex // held by the one that makes them
	current atomic.Pointer[guards]
}

// guards makes what protects the apis, if they have changed since it was made. It does no IO.
func (s *Server) guards() *guards {
	generation := s.policy.apis.Generation()
	if now := s.guarding.current.Load(); now != nil && now.generation == generation {
		return now
	}
	s.guarding.mu.Lock()
	defer s.guarding.mu.Unlock()
	// Asked for before the list is read: if it changes in between, the next request makes them once more.
	generation = s.policy.apis.Generation()
	if now := s.guarding.current.Load(); now != nil && now.generation == generation {
		return now
	}
	all := &guards{generation: generation, byID: map[string]*guard{}, byHost: map[string][]*guard{}}
	for _, api := range s.policy.apis.List() {
		g, err := s.newGuard(api)
		if err != nil {
			// It answers to nobody here then, like one that is not registered.
			s.log.Error("forward-auth cannot protect this api", slog.String("api", api.Identifier), slog.Any("cause", err))
			continue
		}
		all.list = append(all.list, g)
		all.byID[api.Identifier] = g
		for _, host := range g.hosts() {
			all.byHost[host] = append(all.byHost[host], g)
		}
	}
	for _, list := range all.byHost {
		slices.SortStableFunc(list, func(a, b *guard) int { return len(b.path) - len(a.path) })
	}
	s.guarding.current.Store(all)
	return all
}

func (s *Server) newGuard(api *registry.API) (*guard, error) {
	g := &guard{api: api, doors: map[*registry.Endpoint]http.Handler{}}
	if api.URL != "" {
		u, err := url.Parse(api.URL)
		if err != nil {
			return nil, err
		}
		g.scheme, g.path = u.Scheme, u.Path
	}
	g.options = s.ownAPI(api.Identifier)
	g.options.URL = api.URL
	g.options.AllowQuery = api.AccessTokenInQuery
	g.options.NoForm = true // the proxy keeps the body
	g.options.Verifier = ownTokens{s, api.Identifier}
	for _, scope := range api.Scopes {
		g.options.Scopes = append(g.options.Scopes, scope.Name)
	}
	protected, err := resource.New(g.options)
	if err != nil {
		return nil, err
	}
	g.metadata = protected.Metadata()
	for i := range api.Endpoints {
		if e := &api.Endpoints[i]; !e.Public && !e.Denied {
			g.doors[e] = s.door(protected, e)
		}
	}
	return g, nil
}

// door lets through what has a token that will do at an endpoint, and says whose it is.
func (s *Server) door(api *resource.API, e *registry.Endpoint) http.Handler {
	return api.ProtectNeed(resource.Need{
		Scopes: e.Scopes, Alternatives: e.Alternatives, ACRValues: e.ACRValues, MaxAge: time.Duration(e.MaxAge) * time.Second,
	}, http.HandlerFunc(s.admit))
}

// hosts are the ways in which a Host header names the host of the api's URL.
func (g *guard) hosts() []string {
	_, host, _ := strings.Cut(registry.Origin(g.api.URL), "://")
	switch hasPort := strings.LastIndexByte(host, ':') > strings.LastIndexByte(host, ']'); {
	case host == "":
		return nil
	case hasPort: // not the default one, which Origin takes off
		return []string{host}
	case g.scheme == "https":
		return []string{host, host + ":443"}
	default:
		return []string{host, host + ":80"}
	}
}

// endpoint is the api's for a method and a path as the client sent it; nil if there is none.
func (g *guard) endpoint(method, path string) *registry.Endpoint {
	below, ok := strings.CutPrefix(path, g.path)
	if !ok {
		return nil
	}
	return g.api.Endpoint(method, below) // what does not begin with a slash is none
}

// at is the api that is reached at a host and path; nil if there is none, or if there are two and the scheme does not tell them apart.
func (all *guards) at(scheme, host, path string) *guard {
	var found []*guard
	for _, g := range all.byHost[host] {
		if len(found) > 0 && len(g.path) < len(found[0].path) {
			break
		}
		if path == g.path || strings.HasPrefix(path, g.path+"/") {
			found = append(found, g)
		}
	}
	if len(found) > 1 {
		found = slices.DeleteFunc(found, func(g *guard) bool { return g.scheme != scheme })
	}
	if len(found) != 1 {
		return nil
	}
	return found[0]
}

// anywhere is the api with an endpoint for a method and path, and the endpoint, whatever the host; nil if there is none. Paths are below that of the api's
// URL, or as the endpoint itself has them. Of several it is the one that audience, the access token's, names, else the first: with no token, or that of
// another, all refuse. So those count alone then that want a token.
func (all *guards) anywhere(method, path string, audience func() []string) (*guard, *registry.Endpoint) {
	type place struct {
		g *guard
		e *registry.Endpoint
	}
	var found, locked []place
	for _, g := range all.list {
		e := g.endpoint(method, path)
		if e == nil {
			e = g.api.Endpoint(method, path)
		}
		if e == nil {
			continue
		}
		found = append(found, place{g, e})
		if g.doors[e] != nil {
			locked = append(locked, place{g, e})
		}
	}
	switch {
	case len(found) == 1:
		return found[0].g, found[0].e
	case len(locked) == 0:
		return nil, nil
	}
	named := audience()
	i := slices.IndexFunc(locked, func(p place) bool { return slices.Contains(named, p.g.api.Identifier) })
	at := locked[max(i, 0)]
	return at.g, at.e
}

// find is the api that a request is for, and the endpoint: by the identifier in named, else by its URL, else, unless audience is nil, by its endpoints
// and the access token. The error says what is not registered, or is denied.
func (all *guards) find(named string, o *original, audience func() []string) (*guard, *registry.Endpoint, error) {
	look := func(path string) (*guard, *registry.Endpoint) {
		g := all.byID[named]
		if named == "" {
			g = all.at(o.scheme, o.host, path)
			if g == nil && audience != nil {
				return all.anywhere(o.method, path, audience)
			}
		}
		if g == nil {
			return nil, nil
		}
		return g, g.endpoint(o.method, path)
	}
	g, e := look(o.url.Path)
	switch {
	case g == nil && named != "":
		return nil, nil, fmt.Errorf("no api is registered as '%s'", echo(named))
	case g == nil && o.host == "":
		return nil, nil, errors.New("nothing says which api this is; name it in the address of this endpoint (?api=), or send the host in X-Original-URL or X-Forwarded-Host")
	case g == nil:
		return nil, nil, fmt.Errorf("no api is registered with the url of '%s'", echo(o.host+o.url.Path))
	}
	// An api that takes the parameters off the path of a request would serve what was not asked about. So both have to be the same.
	if e != nil && o.bare != o.url.Path {
		if g2, e2 := look(o.bare); g2 != g || e2 != e {
			e = nil
		}
	}
	switch {
	case e == nil && !strings.HasPrefix(o.url.Path, g.path):
		return nil, nil, fmt.Errorf("the endpoints of the api '%s' are below %s, and %s is not; let the proxy ask before it changes the path", echo(g.api.Identifier), echo(g.api.URL), echo(o.url.Path))
	case e == nil:
		return nil, nil, fmt.Errorf("the api '%s' has no endpoint for %s %s", echo(g.api.Identifier), o.method, echo(o.url.Path))
	case e.Denied:
		return nil, nil, fmt.Errorf("the api '%s' lets nobody through to %s %s", echo(g.api.Identifier), o.method, echo(o.url.Path))
	}
	return g, e, nil
}

// paramAPI names an api in the address of the forward-auth endpoint, which is the proxy's to write.
const paramAPI = "api"

// namedAPI is the api in the query of the forward-auth endpoint's address; "" if none is. Some proxies append the query of the original request to
// an address without one, or put it in its place: then the sender would choose the api, and so it is refused where both name the same.
func namedAPI(query, originalQuery string) (string, error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return "", errors.New("the query of this endpoint's address cannot be read")
	}
	names := values[paramAPI]
	if len(names) == 0 {
		return "", nil
	}
	if len(names) > 1 || names[0] == "" {
		return "", errors.New("the address of this endpoint names more than one api, or none")
	}
	theirs, _ := url.ParseQuery(originalQuery) // what can be read of it
	if slices.Contains(theirs[paramAPI], names[0]) {
		return "", errors.New("the original request has the same parameter api as the address of this endpoint; let the proxy write an address with a query of its own")
	}
	return names[0], nil
}

// ForwardAuth answers at PathForwardAuth and below, and leaves everything else to next. It stands before the routes: they would tidy a path up and send
// who asked to another one, where it has to be refused.
func (s *Server) ForwardAuth(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if below, ok := strings.CutPrefix(r.URL.Path, PathForwardAuth); ok && (below == "" || below[0] == '/') {
			s.forwardAuth(proxyAnswer{w}, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) forwardAuth(w http.ResponseWriter, r *http.Request) {
	// A refusal goes to the client as the api's own. Whether that host is to be reached over https alone, its proxy says.
	w.Header().Del("Strict-Transport-Security")
	o, err := originalRequest(r)
	var named string
	if err == nil && !o.prefixed {
		named, err = namedAPI(r.URL.RawQuery, o.url.RawQuery)
	}
	if err != nil {
		s.turnAway(w, r, &Error{Code: codeInvalidRequest, Description: err.Error(), Status: http.StatusUnauthorized})
		return
	}
	var audience func() []string
	if s.forwardAnyHost {
		audience = func() []string { return s.audience(o.request(r)) }
	}
	g, e, err := s.guards().find(named, o, audience)
	if err != nil {
		// Another node may have registered it a moment ago.
		if err := s.policy.apis.Refresh(r.Context()); err != nil {
			s.turnAway(w, r, &Error{Code: codeUnavailable, Description: "the apis cannot be read now; try again in a moment", Status: http.StatusServiceUnavailable, RetryAfter: time.Second, Cause: err})
			return
		}
		g, e, err = s.guards().find(named, o, audience)
	}
	if err != nil {
		s.turnAway(w, r, &Error{Code: codeAccessDenied, Description: err.Error(), Status: http.StatusForbidden})
		return
	}
	if e.Public {
		// Whatever token is there is not looked at, as by a handler that the middleware does not protect.
		s.admit(w, r)
		return
	}
	door := g.doors[e]
	if s.forwardAnyHost && o.scheme != "" && o.host != "" {
		options := g.options
		options.URL = o.scheme + "://" + o.host
		api, err := resource.New(options)
		if err != nil {
			s.turnAway(w, r, internal(err))
			return
		}
		door = s.door(api, e)
	}
	door.ServeHTTP(w, o.request(r))
}

// audience is that of a request's access token, good or not; nil if it has none of the broker's.
func (s *Server) audience(r *http.Request) []string {
	raw := r.URL.Query().Get("access_token")
	if _, value, found := strings.Cut(r.Header.Get("Authorization"), " "); found {
		raw = strings.TrimSpace(value)
	}
	access, _, err := s.access.Verify(raw)
	if err != nil {
		return nil
	}
	return access.Audience
}

// request is the original request as far as an access token may be in it. asked is the proxy's: its connection, its body and its other headers say
// nothing of the original one.
func (o *original) request(asked *http.Request) *http.Request {
	r := &http.Request{
		Method: o.method, URL: o.url, RequestURI: o.url.RequestURI(), Host: o.host,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{}, Body: http.NoBody,
	}
	for _, name := range []string{"Authorization", "Dpop"} {
		if values := asked.Header[name]; values != nil {
			r.Header[name] = values
		}
	}
	return r.WithContext(asked.Context())
}

// admit says yes, and whose token it was, if one was asked for.
func (s *Server) admit(w http.ResponseWriter, r *http.Request) {
	said := [...]struct{ name, value string }{
		{name: headerAuthSubject},
		{name: headerAuthClientID},
		{name: headerAuthScope},
		{name: headerAuthAPI},
		{name: headerAuthACR},
		{name: headerAuthTime},
		{name: headerAuthExpires},
		{name: headerAuthActor},
		{name: headerAuthDetails},
	}
	if t := resource.FromContext(r.Context()); t != nil {
		for i, value := range [len(said)]string{
			t.Subject, t.ClientID, strings.Join(t.Scopes, " "), t.Audience[0], // ownTokens leaves the api's alone
			t.ACR, unixOrNothing(t.AuthTime), unixOrNothing(t.ExpiresAt), asciiJSON(t.Actor), asciiJSON(t.Details),
		} {
			said[i].value = value
		}
	}
	h := w.Header()
	for _, line := range said {
		// What would not come through as it is could come through as somebody else's name.
		if strings.ContainsFunc(line.value, func(r rune) bool { return r < ' ' || r > '~' }) || strings.TrimSpace(line.value) != line.value {
			s.turnAway(w, r, internal(fmt.Errorf("what a token says cannot stand in the header %s", line.name)))
			return
		}
	}
	for _, line := range said {
		h[line.name] = []string{line.value}
	}
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", "0")
	w.WriteHeader(http.StatusOK)
}

// unixOrNothing is a time in seconds since 1970; "" if there is none.
func unixOrNothing(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return strconv.FormatInt(t.Unix(), 10)
}

// asciiJSON is JSON on one line of ASCII, as a header takes it. JSON has other letters in strings alone, where they can be escaped (RFC 8259 section 7).
func asciiJSON(raw json.RawMessage) string {
	var line bytes.Buffer
	if len(raw) == 0 || json.Compact(&line, raw) != nil {
		return ""
	}
	var b strings.Builder
	for _, r := range line.String() {
		switch {
		case r < 0x7f:
			b.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// turnAway refuses what did not get as far as a token.
func (s *Server) turnAway(w http.ResponseWriter, r *http.Request, e *Error) {
	if e.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", challenge.New("Bearer", "error", e.Code, "error_description", e.Description))
	}
	s.writeError(w, r, e)
}

// proxyAnswer words an answer as reverse proxies understand it.
type proxyAnswer struct{ http.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (w proxyAnswer) WriteHeader(status int) {
	// nginx passes 401 and 403 on, and makes 500 of every other refusal; so what the middleware calls a bad request is a missing token here.
	if status >= 400 && status < 500 && status != http.StatusForbidden {
		status = http.StatusUnauthorized
	}
	// nginx before 1.23 passes the first line of a header on. Several challenges may stand in one (RFC 9110 section 11.6.1).
	h := w.Header()
	if challenges := h.Values("WWW-Authenticate"); len(challenges) > 1 {
		h.Set("WWW-Authenticate", strings.Join(challenges, ", "))
	}
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (w proxyAnswer) Unwrap() http.ResponseWriter { return w.ResponseWriter }
