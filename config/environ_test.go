package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// at is the value at a path of keyPaths, in the first item of each list.
func at(t *testing.T, section reflect.Value, path string) reflect.Value {
	t.Helper()
	name, rest, more := strings.Cut(path, ".")
	name, inList := strings.CutSuffix(name, "[]")
	for _, k := range keysOf(section.Type()) {
		if k.name != name {
			continue
		}
		v := section.FieldByIndex(k.index)
		if inList {
			v = v.Index(0)
		}
		if more {
			return at(t, v, rest)
		}
		return v
	}
	t.Fatalf("no key %s", path)
	return reflect.Value{}
}

// Whatever can be written in the file can be said by a variable: containers have no file to edit.
func TestEveryKeyHasAVariable(t *testing.T) {
	for _, path := range keyPaths(reflect.TypeFor[Config](), "") {
		name := envPrefix + envKey(strings.ReplaceAll(path, "[]", "_0"))
		name = strings.ReplaceAll(name, "__", "_")
		for _, items := range []int{0, 2} { // made by the variable, or by the file
			c := base()
			c.Connectors, c.Clients, c.Accounts, c.Keyring = make([]Connector, items), make([]Client, items), make([]Account, items), make([]KeyringEntry, items)
			text, want := "a text", "a text"
			switch probe := typeAt(path); {
			case probe == durationType:
				text, want = "7m", "7m"
			case probe.Kind() == reflect.Bool:
				text, want = "true", "true"
			case probe.Kind() == reflect.Int:
				text, want = "7", "7"
			case kindOf(probe) == kindWords:
				text, want = "a, b,,c ", "[a b c]"
			}
			r := &reader{file: "f", origins: map[string]origin{}, spoilt: map[string]bool{}}
			r.overlay([]string{name + "=" + text}, c)
			if err := r.problems.err(); err != nil {
				t.Error(err)
				continue
			}
			v := at(t, reflect.ValueOf(c).Elem(), path)
			if s, secret := v.Interface().(Secret); secret {
				v = reflect.ValueOf(s.Reveal())
			}
			if got := sprint(v); got != want {
				t.Errorf("%s=%s: %s is %s, want %s", name, text, path, got, want)
			}
		}
	}
}

func sprint(v reflect.Value) string {
	if d, ok := v.Interface().(Duration); ok {
		return d.String()
	}
	if v.Kind() == reflect.Int {
		return strconv.FormatInt(v.Int(), 10)
	}
	if v.Kind() == reflect.Slice {
		return "[" + strings.Join(v.Interface().([]string), " ") + "]"
	}
	if v.Kind() == reflect.Int {
		return strconv.FormatInt(v.Int(), 10)
	}
	if v.Kind() == reflect.Bool {
		return map[bool]string{true: "true", false: "false"}[v.Bool()]
	}
	return v.String()
}

// typeAt is the type of the key at a path of keyPaths.
func typeAt(path string) reflect.Type {
	section := reflect.TypeFor[Config]()
	for name := range strings.SplitSeq(path, ".") {
		name, inList := strings.CutSuffix(name, "[]")
		for _, k := range keysOf(section) {
			if k.name == name {
				section = k.of
				break
			}
		}
		if inList {
			section = section.Elem()
		}
	}
	return section
}

func TestTheEnvironmentWinsOverTheFile(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("from-a-file-0123456789abcdef0123456789\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	text := `issuer: https://a.example
listen: [wrong]
keyring:
  - {file: /nonexistent}
connectors:
  - {name: google, type: google, client_id: i, client_secret: s, scopes: [openid, "not a scope"]}
  - {name: my-oidc, type: oidc, issuer: https://b.example, client_id: i, client_secret_file: /nonexistent}
clients:
  - {client_id: shop.web, client_secret: 0123456789abcdef0123456789abcdef, name: Shop, redirect_uris: ["https://a.example/cb"]}
`
	c := parse(t, text,
		"PORTICO_LISTEN=:1",
		"PORTICO_ISSUER=", // set to nothing, as compose does: as if it were not there
		"PORTICO_KEYRING_0_SECRET_FILE="+secret,
		"PORTICO_CONNECTORS_GOOGLE_CLIENT_SECRET=from-the-environment",
		"PORTICO_CONNECTORS_GOOGLE_SCOPES=openid,email",
		"PORTICO_CONNECTORS_MY_OIDC_CLIENT_SECRET=s=2",
		"PORTICO_CONNECTORS_1_TIMEOUT=3s",
		"PORTICO_CLIENTS_SHOP_WEB_CLIENT_SECRET_FILE="+secret,
		"PORTICO_CLIENTS_SHOP_WEB_FIRST_PARTY=true",
		"PORTICO_CONFIG=elsewhere.yaml", "PORTICO_TEST_MONGODB_URI=x", "PORTICOX=1", "NOEQUALS",
	)
	for what, is := range map[string]bool{
		"listen":                       c.Listen == ":1",
		"issuer":                       c.Issuer == "https://a.example",
		"keyring":                      c.Keyring[0].Secret.Reveal() == "from-a-file-0123456789abcdef0123456789",
		"google's secret":              c.Connectors[0].ClientSecret.Reveal() == "from-the-environment",
		"oidc's secret, not the file":  c.Connectors[1].ClientSecret.Reveal() == "s=2" && c.Connectors[1].ClientSecretFile == "",
		"oidc's timeout, by index":     c.Connectors[1].Timeout.String() == "3s",
		"client's secret, from a file": c.Clients[0].ClientSecret.Reveal() == "from-a-file-0123456789abcdef0123456789",
		"client's flag":                c.Clients[0].FirstParty,
	} {
		if !is {
			t.Errorf("%s is not what the environment says", what)
		}
	}
	if diff := cmp.Diff([]string{"openid", "email"}, c.Connectors[0].Scopes); diff != "" {
		t.Errorf("a list is not replaced: %s", diff)
	}
}

func TestItemsFromTheEnvironmentComeInTheOrderOfTheirIndex(t *testing.T) {
	environ := []string{"PORTICO_ISSUER=https://a.example"}
	for _, i := range []string{"10", "9", "8", "7", "6", "5", "4", "3", "2", "1", "0"} {
		prefix := "PORTICO_CONNECTORS_" + i + "_"
		environ = append(environ, prefix+"NAME=n"+i, prefix+"TYPE=github", prefix+"CLIENT_ID=i", prefix+"CLIENT_SECRET=s")
	}
	c, err := Load("", environ)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Connectors) != 11 || c.Connectors[10].Name != "n10" || c.Connectors[2].Name != "n2" {
		t.Errorf("got %+v", c.Connectors)
	}
}

// An unknown variable is as silent as an unknown key would be.
func TestWhatIsWrongInTheEnvironmentIsSaidWithItsVariable(t *testing.T) {
	tests := map[string]struct {
		environ string
		want    []string
	}{
		"a slip":               {"PORTICO_STORE_PTAH=x", []string{"PORTICO_STORE_PTAH: is not a setting of the broker; did you mean PORTICO_STORE_PATH?"}},
		"a slip in a section":  {"PORTICO_TOKEN_CODE_LIFETIME=1m", []string{"PORTICO_TOKEN_CODE_LIFETIME: is not a setting of the broker; did you mean PORTICO_TOKENS_CODE_LIFETIME?"}},
		"a slip in a name":     {"PORTICO_CONNECTORS_GOGLE_CLIENT_ID=x", []string{"PORTICO_CONNECTORS_GOGLE_CLIENT_ID: is not a setting of the broker; did you mean PORTICO_CONNECTORS_GOOGLE_CLIENT_ID?"}},
		"from nowhere":         {"PORTICO_WEATHER=x", []string{"PORTICO_WEATHER: is not a setting of the broker"}},
		"a gap":                {"PORTICO_CONNECTORS_7_NAME=x", []string{"PORTICO_CONNECTORS_7_NAME: is not a setting of the broker; did you mean PORTICO_CONNECTORS_0_NAME?"}},
		"a file for no secret": {"PORTICO_LISTEN_FILE=x", []string{"PORTICO_LISTEN_FILE: is not a setting of the broker"}},
		"a section":            {"PORTICO_STORE=sqlite", []string{"PORTICO_STORE: store: is not a single setting; its keys are type, path, synchronous, uri, uri_file, database"}},
		"a list":               {"PORTICO_CONNECTORS=google", []string{"PORTICO_CONNECTORS: connectors: is a list whose items have keys; set them one by one, such as PORTICO_CONNECTORS_0_NAME"}},
		"a type":               {"PORTICO_FLOW_LIFETIME=30", []string{"PORTICO_FLOW_LIFETIME: flow_lifetime: 30 has no unit; write 30s for seconds"}},
		"a rule":               {"PORTICO_ISSUER=https://a.example/", []string{`PORTICO_ISSUER: issuer: "https://a.example/" ends in a slash; write https://a.example`}},
		"a rule in a list":     {"PORTICO_TRUSTED_PROXIES=10.0.0.1,proxy", []string{`PORTICO_TRUSTED_PROXIES: trusted_proxies[1]: "proxy" is neither an address nor a CIDR; write 10.0.0.7 or 10.0.0.0/8`}},
		"a rule of an item":    {"PORTICO_CONNECTORS_GOOGLE_TIMEOUT=5m", []string{"PORTICO_CONNECTORS_GOOGLE_TIMEOUT: connectors[0].timeout: 5m is neither 0 nor between 100ms and 1m: 0 is upstream.timeout, and a person waits for it"}},
		"an item that is not whole": {"PORTICO_CONNECTORS_1_NAME=x", []string{
			"PORTICO_CONNECTORS_1_NAME: connectors[1].type: is missing; want one of facebook, fixed, github, google, oidc",
		}},
		"two of a secret": {"PORTICO_CONNECTORS_0_CLIENT_SECRET=x PORTICO_CONNECTORS_0_CLIENT_SECRET_FILE=y", []string{
			"PORTICO_CONNECTORS_0_CLIENT_SECRET_FILE: connectors[0].client_secret_file: is given beside client_secret; one of them is enough",
		}},
		"names that begin alike": {"PORTICO_CONNECTORS_1_NAME=google PORTICO_CONNECTORS_GOOGLE_TYPE=google", []string{
			"PORTICO_CONNECTORS_1_NAME: connectors[1].name: \"google\" is the name of connectors[0] too",
			"PORTICO_CONNECTORS_1_NAME: connectors[1].type: is missing; want one of facebook, fixed, github, google, oidc",
			"PORTICO_CONNECTORS_GOOGLE_TYPE: may mean connectors[0].type or connectors[1].type; address the item by its index",
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, problems(t, small, strings.Fields(test.environ)...)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Kubernetes describes every service to every container. One that is called portico must not stop the broker.
func TestServiceLinksAreIgnored(t *testing.T) {
	parse(t, small,
		"PORTICO_SERVICE_HOST=10.0.0.1", "PORTICO_SERVICE_PORT=80", "PORTICO_SERVICE_PORT_HTTP=80", "PORTICO_PORT=tcp://10.0.0.1:80",
		"PORTICO_PORT_80_TCP=tcp://10.0.0.1:80", "PORTICO_PORT_80_TCP_PROTO=tcp", "PORTICO_PORT_80_TCP_PORT=80", "PORTICO_PORT_80_TCP_ADDR=10.0.0.1",
		"PORTICO_MONGO_SERVICE_HOST=10.0.0.2", "PORTICO_MONGO_PORT=tcp://10.0.0.2:27017",
	)
	if got := problems(t, small, "PORTICO_PORT=8080"); len(got) != 1 {
		t.Errorf("a port that a person set: %v", got)
	}
}

func TestProblemsOfTheFileComeFirst(t *testing.T) {
	got := problems(t, small+"linking: x\nlisten: y\n", "PORTICO_LOG_LEVEL=z", "PORTICO_A=b")
	want := []string{
		`portico.yaml:7: linking: "x" is not one of ask, verified, never`,
		`portico.yaml:8: listen: "y" is not host:port; write 127.0.0.1:8080, [::1]:8080, or :8080 for all addresses`,
		"PORTICO_A: is not a setting of the broker",
		`PORTICO_LOG_LEVEL: log.level: "z" is not one of debug, info, warn, error`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
