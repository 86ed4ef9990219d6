package sandbox

import (
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"net/http"
	"net/url"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestNewSaysWhatIsWrong(t *testing.T) {
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*Options)
		want   string
	}{
		"slash at the end":         {func(o *Options) { o.BaseURL += "/" }, "base URL"},
		"no scheme":                {func(o *Options) { o.BaseURL = "127.0.0.1:8082" }, "base URL"},
		"a path":                   {func(o *Options) { o.BaseURL += "/x" }, "base URL"},
		"unknown Auto":             {func(o *Options) { o.Auto = "zoe" }, `"zoe"`},
		"no personas":              {func(o *Options) { o.Personas = []Persona{} }, "personas"},
		"a name twice":             {func(o *Options) { o.Personas = append(DefaultPersonas(), Persona{Name: "ann"}) }, `"ann"`},
		"a name in capitals":       {func(o *Options) { o.Personas = []Persona{{Name: "Ann"}} }, `"Ann"`},
		"a Google sub twice":       {func(o *Options) { o.Personas = twins(&GoogleAccount{Sub: "1"}, nil, nil) }, "google sub 1"},
		"no Google sub":            {func(o *Options) { o.Personas = twins(&GoogleAccount{}, nil, nil) }, "no sub"},
		"a GitHub id twice":        {func(o *Options) { o.Personas = twins(nil, &GitHubAccount{ID: 7, Login: "x"}, nil) }, "github id 7"},
		"no GitHub id":             {func(o *Options) { o.Personas = twins(nil, &GitHubAccount{Login: "x"}, nil) }, "no id"},
		"a Facebook id twice":      {func(o *Options) { o.Personas = twins(nil, nil, &FacebookAccount{ID: "9"}) }, "facebook id 9"},
		"no Facebook id":           {func(o *Options) { o.Personas = twins(nil, nil, &FacebookAccount{}) }, "no id"},
		"a key that is too small":  {func(o *Options) { o.Key = small }, "2048"},
		"a client without secret":  {func(o *Options) { o.Clients = []Client{{Provider: Google, ID: "a"}} }, "secret"},
		"a client at nobody's":     {func(o *Options) { o.Clients = []Client{{Provider: "apple", ID: "a", Secret: "b"}} }, "apple"},
		"a redirect URI, fragment": {func(o *Options) { o.Clients[0].RedirectURIs = []string{"https://a.example/#x"} }, "fragment"},
		"a redirect URI, relative": {func(o *Options) { o.Clients[0].RedirectURIs = []string{"/callback"} }, "absolute"},
	} {
		t.Run(name, func(t *testing.T) {
			o := Options{BaseURL: "http://127.0.0.1:8082", Clients: testClients(), Key: testKey()}
			c.change(&o)
			if _, err := New(o); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("New: %v, want something about %s", err, c.want)
			}
		})
	}
}

func twins(google *GoogleAccount, github *GitHubAccount, facebook *FacebookAccount) []Persona {
	return []Persona{{Name: "one", Google: google, GitHub: github, Facebook: facebook}, {Name: "two", Google: google, GitHub: github, Facebook: facebook}}
}

// A redirect URI that the broker learns later (its own port) can be added while the sandbox runs.
func TestRedirectURIsAreAddedLater(t *testing.T) {
	w := newWorld(t)
	const later = "http://127.0.0.1:9999/cb"
	if r := w.authorize(Google, "redirect_uri="+later); r.status != http.StatusBadRequest {
		t.Fatalf("before: %d", r.status)
	}
	for range 2 { // again is no error
		if err := w.AddRedirectURI(Google, "g-client", later); err != nil {
			t.Fatal(err)
		}
	}
	if r := w.authorize(Google, "redirect_uri="+later); r.status != http.StatusFound || !strings.HasPrefix(r.header.Get("Location"), later+"?") {
		t.Errorf("after: %d %s", r.status, r.header.Get("Location"))
	}
	if err := w.AddRedirectURI(Google, "nobody", later); err == nil {
		t.Error("added to a client that does not exist")
	}
	if err := w.AddRedirectURI(Google, "g-client", "/relative"); err == nil {
		t.Error("added a relative one")
	}
	if err := w.Register(Client{Provider: Facebook, ID: "new", Secret: "s", RedirectURIs: []string{callback}}); err != nil {
		t.Fatal(err)
	}
	if r := w.authorize(Facebook, "client_id=new"); r.status != http.StatusFound {
		t.Errorf("a new client: %d", r.status)
	}
}

func TestTheNumberOfClientsAndRedirectURIsIsBounded(t *testing.T) {
	w := newWorld(t)
	var err error
	for i := range maxClients + 1 {
		err = w.Register(Client{Provider: Google, ID: fmt.Sprint("c", i), Secret: "s"})
	}
	if err == nil {
		t.Error("more clients than maxClients")
	}
	for i := range maxRedirectURIs + 1 {
		err = w.AddRedirectURI(Google, "g-client", fmt.Sprint("https://broker.example/", i))
	}
	if err == nil {
		t.Error("more redirect URIs than maxRedirectURIs")
	}
}

// Two sign-ins never share state: codes, tokens and persons stay apart under load, with faults armed and
// disarmed in between.
func TestSignInsAtOnce(t *testing.T) {
	w := newWorld(t)
	names := map[Provider][]string{
		Google: {"ann", "bob", "uma"}, GitHub: {"ann", "bob", "cleo", "mallory", "nora"}, Facebook: {"ann", "cleo", "mallory"},
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for round := range 6 {
				p := Providers()[(i+round)%3]
				name := names[p][(i*7+round)%len(names[p])]
				hint := "login_hint=" + name
				if p == GitHub {
					hint = "login=" + name
				}
				got := w.profile(p, w.token(p, hint)).object()
				persona := w.people.byName[name]
				want, key := "", "sub"
				switch p {
				case Google:
					want = persona.Google.Sub
				case GitHub:
					want, key = fmt.Sprint(persona.GitHub.ID), "id"
				case Facebook:
					want, key = persona.Facebook.ID, "id"
				}
				if fmt.Sprint(got[key]) != want {
					t.Errorf("%s signed in as %s, and is %v", p, name, got[key])
				}
				if err := w.Arm(p, Fault{Name: faultSlow, At: atProfile}); err != nil {
					t.Error(err)
				}
				w.Disarm(p, faultSlow)
				w.Personas()
			}
		})
	}
	wg.Wait()
}

// Of any number of racing redemptions of one code, one wins; a client's test of its own locking relies on it.
func TestACodeIsRedeemedOnceHoweverManyTry(t *testing.T) {
	w := newWorld(t)
	for _, p := range Providers() {
		code := w.code(p)
		var mu sync.Mutex
		won := 0
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if w.redeem(p, code).text("access_token") != "" {
					mu.Lock()
					won++
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if won != 1 {
			t.Errorf("%s: %d redemptions won", p, won)
		}
	}
}

// A benchmark signs in without end; memory does not grow with it, and the newest sign-in still works.
func TestMemoryIsBounded(t *testing.T) {
	w := newWorld(t)
	const few = 20
	ledgers := map[Provider]*ledger{Google: &w.google.ledger, GitHub: &w.github.ledger, Facebook: &w.facebook.ledger}
	for _, l := range ledgers {
		l.codes.max, l.tokens.max, l.refresh.max, l.grants.max = few, few, few, few
	}
	for _, p := range Providers() {
		for range 2 * few {
			if got := w.profile(p, w.token(p, "access_type=offline", "prompt=consent")); got.status != http.StatusOK {
				t.Fatalf("%s: %d %s", p, got.status, got.body)
			}
		}
		l := ledgers[p]
		for name, n := range map[string]int{"codes": l.codes.size(), "tokens": l.tokens.size(), "refresh": l.refresh.size(), "grants": l.grants.size()} {
			if n > few {
				t.Errorf("%s: %d %s, more than %d", p, n, name, few)
			}
		}
	}
}

func TestABodyThatIsTooLargeIsRefused(t *testing.T) {
	w := newWorld(t)
	large := strings.Repeat("x", maxBody+1)
	if r := w.post(w.GoogleURL()+"/token", url.Values{"code": {large}}); r.status != http.StatusBadRequest {
		t.Errorf("Google's token endpoint: %d", r.status)
	}
	if r := w.arm(`{"provider":"` + large + `"}`); r.status != http.StatusBadRequest {
		t.Errorf("faults: %d", r.status)
	}
}

// The sandbox is the independent other side of the connectors: it must not read their code.
func TestConnectorsAreNotImported(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Skipf("go list: %v", err)
	}
	for _, pkg := range strings.Fields(string(out)) {
		if strings.HasPrefix(pkg, "github.com/portico-id/portico/") && !strings.HasSuffix(pkg, "/connectors/sandbox") {
			t.Errorf("imports %s", pkg)
		}
	}
}

func TestTheDefaultSleepEndsWithItsContext(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Sleep = nil })
	if err := w.sleep(t.Context(), time.Nanosecond); err != nil {
		t.Error(err)
	}
}

func TestTable(t *testing.T) {
	at := time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)
	tab := newTable[int](3)
	for i, key := range []string{"a", "b", "c"} {
		tab.put(key, i, at, at.Add(time.Minute))
	}
	tab.remove("a")
	tab.put("d", 3, at, at.Add(time.Minute)) // in the place of a
	if _, ok := tab.get("b", at); !ok {
		t.Error("b made room although a had gone")
	}
	tab.put("e", 4, at, at.Add(time.Hour))
	if _, ok := tab.get("b", at); ok {
		t.Error("the oldest was not evicted")
	}
	if _, ok := tab.get("c", at.Add(time.Minute)); ok {
		t.Error("a forgotten value was found")
	}
	tab.put("f", 5, at.Add(time.Minute), at.Add(time.Hour))
	if n := tab.size(); n != 2 {
		t.Errorf("%d values after the others expired, want e and f", n)
	}
	if !tab.remove("f") || tab.remove("f") {
		t.Error("remove must say true once")
	}
	for i := range 1000 {
		tab.put(fmt.Sprint(i), i, at, at.Add(time.Hour))
	}
	if n := len(tab.order); n > 3 {
		t.Errorf("the order of a table of 3 holds %d", n)
	}
}
