package oauth

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/broker/token"
)

const (
	issuer = "https://login.example.com"
	notes  = "https://api.example.com/notes"
	mail   = "https://api.example.com/mail"
	bank   = "https://bank.example.com"
	files  = "urn:example:files"
)

// testPolicy has apis that differ in all that can differ: notes and files share a scope, and files is open to strangers; mail takes JWTs; bank has details alone.
func testPolicy(t testing.TB) *policy {
	t.Helper()
	sentence := func(names ...string) (scopes []registry.Scope) {
		for _, name := range names {
			scopes = append(scopes, registry.Scope{Name: name, Sentence: "Do " + name})
		}
		return scopes
	}
	payment := registry.DetailsType{Type: "payment", Sentence: "Pay", Fields: []registry.DetailsField{
		{Name: "amount", Required: true}, {Name: "currency", Values: []string{"EUR", "USD"}}, {Name: "actions", Values: []string{"start", "cancel"}},
	}}
	apis, err := registry.NewAPIs(
		registry.Reserved{Issuer: issuer, Scopes: []string{ScopeOpenID, ScopeProfile, ScopeEmail, ScopeOfflineAccess}},
		registry.API{Identifier: notes, Name: "Notes", Scopes: sentence("notes:read", "notes:write", "shared"), AccessTokenTTL: 300},
		registry.API{Identifier: mail, Name: "Mail", Scopes: sentence("mail:read"), AccessTokenFormat: "jwt", AccessTokenAlg: "RS256", AccessTokenTTL: 7200},
		registry.API{Identifier: bank, Name: "Bank", DetailsTypes: []registry.DetailsType{payment, {Type: "account", Sentence: "See"}}},
		registry.API{Identifier: files, Name: "Files", Scopes: sentence("files:read", "shared"), SelfRegistered: true},
	)
	if err != nil {
		t.Fatal(err)
	}
	return &policy{issuer: issuer, scopes: Scopes(), apis: apis, format: token.FormatOpaque, lifetime: 15 * time.Minute}
}

func testClient() *registry.Client {
	return &registry.Client{
		ID:           "app",
		Scopes:       []string{"openid", "profile", "offline_access", "notes:read", "notes:write", "mail:read", "files:read", "shared", "gone"},
		DetailsTypes: []string{"payment", "account"},
		GrantTypes:   []string{registry.GrantAuthorizationCode, registry.GrantRefreshToken, registry.GrantClientCredentials},
	}
}

// stranger makes the client one that nobody here has registered.
func stranger(scopes ...string) func(*registry.Client) {
	return func(c *registry.Client) { c.RegisteredBy, c.Scopes, c.DetailsTypes = registry.ByItself, scopes, nil }
}

const payment = `[{"type":"payment","amount":"12.00","currency":"EUR","actions":["start","cancel"]}]`

func readTestWish(t testing.TB, scope, details string, resources ...string) wish {
	t.Helper()
	p := params{"scope": {scope}, "authorization_details": {details}, "resource": resources}
	w, refusal := readWish(p)
	if refusal != nil {
		t.Fatal(refusal)
	}
	return w
}

// What a client is entitled to, and what an access token that names nothing more is then for.
func TestWhatAClientMayAskFor(t *testing.T) {
	p := testPolicy(t)
	for name, c := range map[string]struct {
		scope, details string
		resources      []string
		alone          bool // no person
		edit           func(*registry.Client)

		refusal          string // code, and a word of its description
		audience, scopes string // of the first token
	}{
		"broker scopes":                    {scope: "openid profile", audience: issuer, scopes: "openid profile"},
		"an api's scope implies it":        {scope: "notes:read", audience: notes, scopes: "notes:read"},
		"both":                             {scope: "openid notes:read", audience: issuer + " " + notes, scopes: "openid notes:read"},
		"a named api has its scopes alone": {scope: "openid notes:read", resources: []string{notes}, audience: notes, scopes: "notes:read"},
		"the issuer may be named":          {scope: "openid notes:read", resources: []string{issuer, notes}, audience: issuer + " " + notes, scopes: "openid notes:read"},
		"two that take the same tokens":    {scope: "notes:read files:read", resources: []string{notes, files}, audience: notes + " " + files, scopes: "notes:read files:read"},
		"a shared scope, named once":       {scope: "shared", resources: []string{files}, audience: files, scopes: "shared"},
		"named without a scope":            {scope: "openid", resources: []string{notes}, audience: notes, scopes: ""},
		"repeated":                         {scope: "notes:read notes:read", resources: []string{notes, notes}, audience: notes, scopes: "notes:read"},
		"details alone":                    {details: payment, audience: bank, scopes: ""},
		"details beside a named api":       {scope: "notes:read", details: payment, resources: []string{notes}, audience: notes + " " + bank, scopes: "notes:read"},
		"details beside broker scopes":     {scope: "openid", details: payment, audience: issuer + " " + bank, scopes: "openid"},
		"no refresh, no offline_access": {
			scope: "openid offline_access", audience: issuer, scopes: "openid",
			edit: func(c *registry.Client) { c.GrantTypes = []string{registry.GrantAuthorizationCode} },
		},

		"nothing":                        {refusal: "invalid_scope missing"},
		"an unknown scope":               {scope: "openid nothing:here", refusal: "invalid_scope 'nothing:here'"},
		"a scope no api defines":         {scope: "gone", refusal: "invalid_scope 'gone'"},
		"not registered for the scope":   {scope: "email", refusal: "invalid_scope 'email'"},
		"another api's scope":            {scope: "mail:read", resources: []string{notes}, refusal: "invalid_scope resource=" + mail},
		"scopes of several apis":         {scope: "notes:read files:read", refusal: "invalid_scope resource"},
		"a shared scope, nobody named":   {scope: "shared", refusal: "invalid_scope resource"},
		"an unknown api":                 {scope: "notes:read", resources: []string{notes + "/"}, refusal: "invalid_target 'https://api.example.com/notes/'"},
		"the issuer with a slash":        {scope: "openid", resources: []string{issuer + "/"}, refusal: "invalid_target no api"},
		"an api it has nothing of":       {scope: "openid", resources: []string{mail}, edit: func(c *registry.Client) { c.Scopes = []string{"openid"} }, refusal: "invalid_target not registered"},
		"different tokens":               {scope: "notes:read mail:read", resources: []string{notes, mail}, refusal: "invalid_target one resource"},
		"an unknown type":                {details: `[{"type":"weather"}]`, refusal: "invalid_authorization_details 'weather'"},
		"not registered for the type":    {details: payment, edit: func(c *registry.Client) { c.DetailsTypes = nil }, refusal: "invalid_authorization_details not registered"},
		"an unknown field":               {details: `[{"type":"payment","amount":"1","to":"x"}]`, refusal: "invalid_authorization_details 'to'"},
		"a value that is not allowed":    {details: `[{"type":"payment","amount":"1","currency":"GBP"}]`, refusal: "invalid_authorization_details EUR"},
		"a list with one such":           {details: `[{"type":"payment","amount":"1","actions":["start","all"]}]`, refusal: "invalid_authorization_details start"},
		"a field missing":                {details: `[{"type":"payment"}]`, refusal: "invalid_authorization_details 'amount'"},
		"a common field that is no list": {details: `[{"type":"account","locations":"x"}]`, refusal: "invalid_authorization_details list"},
		"a common field that is no text": {details: `[{"type":"account","identifier":["x"]}]`, refusal: "invalid_authorization_details string"},

		"a stranger, where an api is open":              {edit: stranger("openid"), scope: "openid files:read", audience: issuer + " " + files, scopes: "openid files:read"},
		"a stranger means the open one of two":          {edit: stranger("openid"), scope: "shared", audience: files, scopes: "shared"},
		"a stranger, at another api":                    {edit: stranger("openid"), scope: "notes:read", refusal: "invalid_scope 'notes:read'"},
		"a stranger, at another api, by name":           {edit: stranger("openid"), scope: "shared", resources: []string{notes}, refusal: "invalid_target not registered"},
		"a stranger, the open one's scope at another":   {edit: stranger("openid", "notes:read"), scope: "shared", resources: []string{notes}, refusal: "invalid_scope resource=" + files},
		"a stranger, a token that both would take":      {edit: stranger("openid", "notes:read"), scope: "shared notes:read", resources: []string{notes, files}, audience: notes + " " + files, scopes: "notes:read"},
		"an app that an operator knows, at an open api": {edit: func(c *registry.Client) { c.Scopes = []string{"openid"} }, scope: "files:read", refusal: "invalid_scope 'files:read'"},

		"alone: an api":                      {alone: true, scope: "notes:read", audience: notes, scopes: "notes:read"},
		"alone: details":                     {alone: true, details: payment, audience: bank},
		"alone: all of a named api":          {alone: true, resources: []string{notes}, audience: notes, scopes: "notes:read notes:write shared"},
		"alone: all there is":                {alone: true, edit: func(c *registry.Client) { c.Scopes = []string{"openid", "mail:read"} }, audience: mail, scopes: "mail:read"},
		"alone: all, of several":             {alone: true, refusal: "invalid_scope resource"},
		"alone: nothing to have":             {alone: true, edit: func(c *registry.Client) { c.Scopes = []string{"openid"} }, refusal: "invalid_scope any api"},
		"alone: nobody has signed in":        {alone: true, scope: "openid", refusal: "invalid_scope person"},
		"alone: nobody to stay connected to": {alone: true, scope: "notes:read offline_access", refusal: "invalid_scope person"},
		"alone: the broker itself":           {alone: true, scope: "notes:read", resources: []string{issuer}, refusal: "invalid_target person"},
	} {
		t.Run(name, func(t *testing.T) {
			client := testClient()
			if c.edit != nil {
				c.edit(client)
			}
			var got *target
			e, refusal := p.entitle(client, readTestWish(t, c.scope, c.details, c.resources...), !c.alone)
			if refusal == nil {
				got, refusal = p.target(client, e, wish{})
			}
			if c.refusal != "" || refusal != nil {
				code, word, _ := strings.Cut(c.refusal, " ")
				if refusal == nil || refusal.Code != code || !strings.Contains(refusal.Description, word) {
					t.Fatalf("got %v, want %s", refusal, c.refusal)
				}
				return
			}
			if strings.Join(got.audience, " ") != c.audience || strings.Join(got.scopes, " ") != c.scopes {
				t.Errorf("a token for %q with %q, want %q with %q", got.audience, got.scopes, c.audience, c.scopes)
			}
			if (c.details != "") != (len(got.details) > 0) {
				t.Errorf("details: %s", got.details)
			}
		})
	}
}

// Where nobody is there to be asked, a request that asks for nothing gets what the client may know of people; never to act while they are away.
func TestWhatAGrantWithoutAPageGivesToWhoeverAsksForNothing(t *testing.T) {
	e, got, refusal := testPolicy(t).direct(testClient(), wish{}, true)
	if refusal != nil || strings.Join(got.scopes, " ") != "openid profile" || strings.Join(got.audience, " ") != issuer || len(e.resources) != 0 {
		t.Errorf("got %+v, %v", got, refusal)
	}
}

// What an api opens to strangers is for people to say yes to: where nobody is asked, a stranger has what it is registered for. And it ends when
// the api says so no longer, for those that have a grant already too.
func TestAnAPIIsOpenToStrangersWherePeopleAreAskedAndAsLongAsItSaysSo(t *testing.T) {
	p, client := testPolicy(t), testClient()
	stranger("openid", "mail:read")(client)
	w := readTestWish(t, "mail:read files:read", "", mail, files)
	for _, person := range []bool{true, false} {
		for _, scope := range []string{"files:read", "mail:read"} {
			_, got, refusal := p.direct(client, readTestWish(t, scope, ""), person)
			if registered := scope == "mail:read"; registered != (refusal == nil) {
				t.Errorf("%s, person %v: %+v, %v", scope, person, got, refusal)
			}
		}
		if _, got, refusal := p.direct(client, readTestWish(t, "", "", files), person); refusal == nil {
			t.Errorf("a token for an open api, without a scope: %+v", got)
		}
	}
	e, refusal := p.entitle(client, w, true)
	if refusal != nil {
		t.Fatal(refusal)
	}
	for _, open := range []bool{true, false} {
		p.apis.Get(files).SelfRegistered = open
		got, refusal := p.target(client, e, wish{resources: []string{files}})
		if open != (refusal == nil) || open && !slices.Contains(got.scopes, "files:read") || !open && refusal.Code != codeInvalidTarget {
			t.Errorf("open %v: %+v, %v", open, got, refusal)
		}
	}
}

// A token for an api opens each of its endpoints that wants no scope. So who has nothing of the api any more gets none, whatever the person said yes to once;
// tokens for others go on.
func TestWhoeverLostAnAPIGetsNoTokenForIt(t *testing.T) {
	p := testPolicy(t)
	for name, c := range map[string]struct {
		scope, details string
		resources      []string
		lose           func(*registry.Client)
		audience       string // of a token whose request names none; "": it is refused
	}{
		"one of two":            {scope: "notes:read files:read", resources: []string{notes, files}, lose: func(c *registry.Client) { c.Scopes = []string{"notes:read"} }, audience: notes},
		"the only one":          {scope: "notes:read", lose: func(c *registry.Client) { c.Scopes = []string{"openid", "mail:read"} }},
		"the one without scope": {scope: "openid", resources: []string{notes}, lose: func(c *registry.Client) { c.Scopes = []string{"openid"} }},
		"beside the broker":     {scope: "openid notes:read", lose: func(c *registry.Client) { c.Scopes = []string{"openid"} }, audience: issuer},
		"details":               {scope: "openid", details: payment, lose: func(c *registry.Client) { c.DetailsTypes = nil }, audience: issuer},
		"nothing":               {scope: "openid notes:read", lose: func(*registry.Client) {}, audience: issuer + " " + notes},
	} {
		client := testClient()
		e, refusal := p.entitle(client, readTestWish(t, c.scope, c.details, c.resources...), true)
		if refusal != nil {
			t.Fatalf("%s: %v", name, refusal)
		}
		c.lose(client)
		got, refusal := p.target(client, e, wish{})
		switch {
		case c.audience == "" && (refusal == nil || refusal.Code != codeInvalidTarget):
			t.Errorf("%s: got %+v, %v", name, got, refusal)
		case c.audience != "" && (refusal != nil || strings.Join(got.audience, " ") != c.audience):
			t.Errorf("%s: got %+v, %v, want a token for %s", name, got, refusal, c.audience)
		}
		for _, resource := range e.resources {
			_, refusal := p.target(client, e, wish{resources: []string{resource}})
			if kept := slices.Contains(strings.Fields(c.audience), resource); kept != (refusal == nil) {
				t.Errorf("%s: a token for %s: %v", name, resource, refusal)
			}
		}
	}
}

// A token request narrows, and reaches nothing that was not granted.
func TestATokenRequestCanOnlyNarrow(t *testing.T) {
	p := testPolicy(t)
	for name, c := range map[string]struct {
		granted        wish
		scope, details string
		resources      []string
		edit           func(*registry.Client)

		refusal                   string
		audience, scopes, written string
	}{
		"one of two apis":    {granted: readTestWish(t, "openid notes:read files:read", "", notes, files), resources: []string{files}, audience: files, scopes: "files:read"},
		"the issuer, always": {granted: readTestWish(t, "openid notes:read", "", notes), resources: []string{issuer}, audience: issuer, scopes: "openid"},
		"by scope, without a resource": {
			granted: readTestWish(t, "openid notes:read mail:read", "", issuer, notes, mail), scope: "mail:read", audience: mail, scopes: "mail:read", written: "jwt RS256 15m0s",
		},
		"no further than the api":    {granted: readTestWish(t, "notes:read notes:write", ""), scope: "notes:read", audience: notes, scopes: "notes:read", written: "opaque  5m0s"},
		"fewer actions":              {granted: readTestWish(t, "", payment), details: `[{"type":"payment","amount":"12.00","currency":"EUR","actions":["start"]}]`, audience: bank},
		"the same in another order":  {granted: readTestWish(t, "", payment), details: `[{"currency":"EUR","actions":["start","cancel"],"amount":"12.00","type":"payment"}]`, audience: bank},
		"a scope was taken away":     {granted: readTestWish(t, "notes:read notes:write", ""), edit: func(c *registry.Client) { c.Scopes = []string{"notes:read"} }, audience: notes, scopes: "notes:read"},
		"a grant of before all this": {granted: readTestWish(t, "openid profile", ""), audience: issuer, scopes: "openid profile"},

		"another scope":            {granted: readTestWish(t, "notes:read", ""), scope: "notes:write", refusal: "invalid_scope"},
		"another api":              {granted: readTestWish(t, "notes:read", ""), resources: []string{mail}, refusal: "invalid_target"},
		"an api that left":         {granted: readTestWish(t, "notes:read", ""), resources: []string{"https://api.example.com/old"}, refusal: "invalid_target"},
		"different kinds of token": {granted: readTestWish(t, "notes:read mail:read", "", notes, mail), refusal: "invalid_target"},
		"a larger amount":          {granted: readTestWish(t, "", payment), details: `[{"type":"payment","amount":"13.00","currency":"EUR","actions":["start"]}]`, refusal: "invalid_authorization_details"},
		"without its limits":       {granted: readTestWish(t, "", payment), details: `[{"type":"payment","amount":"12.00","currency":"EUR"}]`, refusal: "invalid_authorization_details"},
		"one object more":          {granted: readTestWish(t, "", payment), details: strings.TrimSuffix(payment, "]") + `,{"type":"account"}]`, refusal: "invalid_authorization_details"},
	} {
		t.Run(name, func(t *testing.T) {
			client := testClient()
			e, refusal := p.entitle(client, c.granted, true)
			if refusal != nil {
				t.Fatal(refusal)
			}
			// As it comes back from the store.
			e, err := entitlementOf(e.scopes, e.resources, e.details.String())
			if err != nil {
				t.Fatal(err)
			}
			if c.edit != nil {
				c.edit(client)
			}
			got, refusal := p.target(client, e, readTestWish(t, c.scope, c.details, c.resources...))
			if c.refusal != "" || refusal != nil {
				if refusal == nil || refusal.Code != c.refusal {
					t.Fatalf("got %v, want %s", refusal, c.refusal)
				}
				return
			}
			if strings.Join(got.audience, " ") != c.audience || strings.Join(got.scopes, " ") != c.scopes {
				t.Errorf("a token for %q with %q, want %q with %q", got.audience, got.scopes, c.audience, c.scopes)
			}
			if written := string(got.format) + " " + got.alg + " " + got.lifetime.String(); c.written != "" && written != c.written {
				t.Errorf("written %s, want %s", written, c.written)
			}
		})
	}
}

// The bounds of authorization_details, and what two readers could read differently.
func TestAuthorizationDetailsAreReadStrictly(t *testing.T) {
	for name, raw := range map[string]string{
		"no JSON":              `[{"type":"a"`,
		"more than one value":  `[{"type":"a"}] []`,
		"an object":            `{"type":"a"}`,
		"a list of texts":      `["a"]`,
		"no type":              `[{"actions":["x"]}]`,
		"an empty type":        `[{"type":""}]`,
		"a type that is none":  `[{"type":1}]`,
		"a name twice":         `[{"type":"a","amount":"1","amount":"1000"}]`,
		"a name twice, inside": `[{"type":"a","x":{"y":1,"y":2}}]`,
		"an object twice":      `[{"type":"a","x":1},{"x":1,"type":"a"}]`,
		"too long":             `[{"type":"a","x":"` + strings.Repeat("x", maxDetailsBytes) + `"}]`,
		"too long, as written": `[{"type":"a","x":"` + strings.Repeat("<", maxDetailsBytes/4) + `"}]`,
		"too many":             "[" + strings.Repeat(`{"type":"a","x":1},`, maxDetails) + `{"type":"b"}]`,
		"too deep":             `[{"type":"a","x":` + strings.Repeat("[", maxDetailsDepth) + strings.Repeat("]", maxDetailsDepth) + `}]`,
		"too much":             `[{"type":"a","x":[` + strings.Repeat("1,", maxDetailsValues) + `1]}]`,
		"a line break":         `[{"type":"a","x":"one\ntwo"}]`,
		"text turned around":   "[{\"type\":\"a\",\"x\":\"\u202e00.1\"}]",
		"no UTF-8":             "[{\"type\":\"a\",\"x\":\"\xff\"}]",
	} {
		if _, refusal := parseDetails(raw); refusal == nil || refusal.Code != codeInvalidDetails {
			t.Errorf("%s: got %v", name, refusal)
		}
	}
	got, refusal := parseDetails(` [ {"type":"a","n":1.50,"t":"<b>","l":[true,null,{"z":1,"y":[]}]} ] `)
	if refusal != nil {
		t.Fatal(refusal)
	}
	if want := `[{"l":[true,null,{"y":[],"z":1}],"n":1.50,"t":"\u003cb\u003e","type":"a"}]`; got.String() != want {
		t.Errorf("kept as %s, want %s", got, want)
	}
}

// Whatever is sent as authorization_details: it does not crash, stays within the bounds, and what is kept of it is read again as the same.
func FuzzAuthorizationDetails(f *testing.F) {
	for _, seed := range []string{payment, `[]`, `null`, `[[[[[[[`, `[{"type":"a","x":{"y":[1,2.5e9,"z",false]}}]`, `[{"type":"\u0000"}]`, `[{"type":"a","type":"b"}]`, "[{\"type\":\"a\",\"\u202e\":1}]"} {
		f.Add(seed)
	}
	p := testPolicy(f)
	f.Fuzz(func(t *testing.T, raw string) {
		all, refusal := parseDetails(raw)
		if refusal != nil {
			if refusal.Code != codeInvalidDetails {
				t.Fatalf("%q: %v", raw, refusal)
			}
			return
		}
		if len(all) > maxDetails {
			t.Fatalf("%d objects", len(all))
		}
		again, err := grantedDetails(all.String())
		if err != nil || again.String() != all.String() {
			t.Fatalf("%q is kept as %s and read as %s, %v", raw, all, again, err)
		}
		for i := range all {
			if !all[i].narrows(&again[i]) {
				t.Fatalf("%s is not within itself", all[i].canonical)
			}
		}
		_, _, _ = p.direct(testClient(), wish{details: all}, false)
	})
}

// Whatever is sent as resource and scope: what comes out names registered apis alone, and nothing that the client is not registered for, or that one
// api opens to strangers and another, which would take the same token, does not.
func FuzzResourcesAndScopes(f *testing.F) {
	f.Add(notes, mail, "notes:read mail:read", true)
	f.Add(issuer, "", "openid offline_access", true)
	f.Add("https://api.example.com/notes#x", "relative", "notes:read", false)
	f.Add("https://API.example.com/notes", "urn:example:files", "shared", false)
	f.Add("", "", "", false)
	f.Add(files, notes, "shared files:read notes:read", true)
	p, client, unknown := testPolicy(f), testClient(), testClient()
	stranger("openid", "notes:read")(unknown)
	f.Fuzz(func(t *testing.T, one, two, scope string, person bool) {
		w, refusal := readWish(params{"scope": {scope}, "resource": {one, two}})
		if refusal != nil {
			return
		}
		if e, refusal := p.entitle(unknown, w, true); refusal == nil {
			for _, w := range []wish{{}, {resources: []string{one}}, {resources: []string{two}}, {scopes: w.scopes[:min(1, len(w.scopes))]}} {
				got, refusal := p.target(unknown, e, w)
				if refusal != nil {
					continue
				}
				for _, scope := range got.scopes {
					for _, api := range p.apis.WithScope(scope) {
						if !slices.Contains(unknown.Scopes, scope) && slices.Contains(got.audience, api.Identifier) && !api.SelfRegistered {
							t.Fatalf("a stranger has a token for %q with %q", got.audience, scope)
						}
					}
				}
			}
		}
		_, got, refusal := p.direct(client, w, person)
		if refusal != nil {
			return
		}
		if len(got.audience) == 0 {
			t.Fatal("no audience")
		}
		for _, identifier := range got.audience {
			if identifier != issuer && p.apis.Get(identifier) == nil || identifier == issuer && !person {
				t.Fatalf("a token for %q", identifier)
			}
		}
		for _, scope := range got.scopes {
			if !slices.Contains(client.Scopes, scope) || !p.isFor(got.audience, p.own(scope), p.apis.WithScope(scope)) {
				t.Fatalf("a token for %q with %q", got.audience, scope)
			}
		}
	})
}
