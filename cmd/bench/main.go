// Command bench measures a broker process from outside: whole federated logins, refreshes, introspection, userinfo, forward-auth, discovery, on
// the durable SQLite store, beside a floor program that does nothing but HTTP, JSON and one signature; and an API process that broker/resource
// protects.
//
// The load and the simulated providers run in this process, the broker, the floor and the API in processes of their own, whose CPU time is read from the
// kernel: the cost of an operation is the server's, and steadier than its throughput on a shared machine. Rounds are interleaved and
// medians are printed, as a table and, with --json, as JSON.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/alecthomas/kong"
)

type options struct {
	Duration    time.Duration `help:"How long each measurement takes." default:"5s"`
	Rounds      int           `help:"How many rounds; medians are printed." default:"3"`
	Connections int           `help:"How many connections send at once." default:"8"`
	Only        string        `help:"Measure only the rows that contain this."`
	MongoDB     string        `help:"Store in this MongoDB instead of SQLite." name:"mongodb" placeholder:"URI"`
	JSON        string        `help:"Write the figures to this file." name:"json" placeholder:"FILE"`
	Floor       bool          `help:"Be the floor program." hidden:""`
	API         string        `help:"Be an API of this issuer." name:"api" hidden:""`
	Secret      string        `help:"The API's client secret." hidden:""`
}

func main() {
	var o options
	kong.Parse(&o, kong.Name("bench"), kong.Description("Measures a broker process, and prints what an operation costs beside a floor."))
	switch {
	case o.Floor:
		fail(runFloor())
	case o.API != "":
		fail(runAPI(o.API, o.Secret))
	default:
		fail(run(o))
	}
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// budget is what an operation may cost at the broker, in CPU milliseconds.
type row struct {
	name   string
	budget float64
	server func(w *world) *server
	make   func(w *world, worker int) (operation, error)
}

// operation does one thing once.
type operation func() error

func rows() []row {
	broker := func(alg string) func(*world) *server { return func(w *world) *server { return w.brokers[alg] } }
	floor := func(w *world) *server { return w.floor }
	api := func(w *world) *server { return w.api }
	return []row{
		{"floor: GET, JSON", 0, floor, floorOperation("/json", "")},
		{"floor: POST form, JSON, ES256", 0, floor, floorOperation("/es256", "a=1&b=2")},
		{"floor: POST form, JSON, RS256", 0, floor, floorOperation("/rs256", "a=1&b=2")},
		{"login, Google, ES256", 1.0, broker("ES256"), login("ES256", "google")},
		{"login, Google, RS256", 1.7, broker("RS256"), login("RS256", "google")},
		{"login, GitHub, ES256", 1.0, broker("ES256"), login("ES256", "github")},
		{"refresh, ES256", 0.20, broker("ES256"), refresh("ES256")},
		{"refresh, RS256", 0.90, broker("RS256"), refresh("RS256")},
		{"refresh with a proof (DPoP), ES256", 0, broker("ES256"), boundRefresh("ES256")},
		{"client credentials, ES256 JWT", 0.09, broker("ES256"), clientCredentials("ES256")},
		{"client credentials, opaque", 0, broker("ES256"), opaqueCredentials("ES256")},
		{"token exchange, ES256 JWT", 0, broker("ES256"), exchange("ES256")},
		{"pushed authorization request", 0, broker("ES256"), push("ES256")},
		{"user credentials (argon2id), ES256", 0, broker("ES256"), password("ES256")},
		{"introspection", 0.06, broker("ES256"), introspect("ES256")},
		{"userinfo", 0.06, broker("ES256"), userinfo("ES256")},
		{"forward-auth, opaque token", 0, broker("ES256"), forwardAuth(opaqueIdentifier)},
		{"forward-auth, ES256 JWT", 0, broker("ES256"), forwardAuth(apiIdentifier)},
		{"API: bare handler", 0, api, callAPI(pathBare, "")},
		{"API: ES256 JWT", 0, api, callAPI(pathJWT, apiIdentifier)},
		{"API: ES256 JWT, a new one each time", 0, api, callAPIAnew},
		{"API: introspection, cached", 0, api, callAPI(pathCached, opaqueIdentifier)},
		{"API: introspection, each time", 0, api, callAPI(pathIntrospect, opaqueIdentifier)},
		{"discovery", 0.03, broker("ES256"), get("ES256", "/.well-known/openid-configuration")},
		{"JWKS", 0.03, broker("ES256"), get("ES256", "/jwks.json")},
	}
}

func run(o options) error {
	dir, err := os.MkdirTemp("", "portico-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "portico")
	build := exec.Command("go", "build", "-trimpath", "-o", program, "./cmd/portico")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("build the broker: %w", err)
	}
	w, err := newWorld(o, dir, program)
	if err != nil {
		return err
	}
	defer w.close()

	var results []*result
	for _, r := range rows() {
		if strings.Contains(r.name, o.Only) {
			results = append(results, &result{Name: r.name, Budget: r.budget, row: r})
		}
	}
	for round := range o.Rounds {
		for _, r := range results {
			fmt.Fprintf(os.Stderr, "round %d of %d: %s\n", round+1, o.Rounds, r.Name)
			m, err := measure(w, r.row, o)
			if err != nil {
				return fmt.Errorf("%s: %w", r.Name, err)
			}
			r.rounds = append(r.rounds, m)
		}
	}
	for _, r := range results {
		r.settle()
	}
	process := processFigures{
		StartMilliseconds:   w.brokers["ES256"].start.Seconds() * 1000,
		RestartMilliseconds: w.restart.Seconds() * 1000,
		IdleMiB:             w.idle,
		LoadedMiB:           w.brokers["ES256"].memory(),
	}
	printTable(os.Stdout, results, process)
	if o.JSON == "" {
		return nil
	}
	raw, err := json.MarshalIndent(map[string]any{
		"connections": o.Connections, "duration": o.Duration.String(), "rounds": o.Rounds, "rows": results, "process": process,
	}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(o.JSON, append(raw, '\n'), 0o600)
}
