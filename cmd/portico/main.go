// Command portico is the broker and everything to run it with: serve, dev, and the commands that manage what is registered.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/portico-id/portico/config"
)

// commands is the command line. Each command is a struct in the file of its name; its Run does it.
type commands struct {
	Dev     devCommand     `cmd:"" help:"Try it: broker, simulated Google, Facebook and GitHub, a sample app and a sample API. Needs nothing."`
	Serve   serveCommand   `cmd:"" help:"Run the broker."`
	Config  configCommand  `cmd:"" help:"Look at the configuration."`
	Client  clientCommand  `cmd:"" help:"Register and manage apps."`
	API     apiCommand     `cmd:"" name:"api" help:"Register and manage APIs."`
	Account accountCommand `cmd:"" help:"Manage accounts, and make local ones."`
	Keys    keysCommand    `cmd:"" help:"Look at the signing keys and rotate them."`
	Health  healthCommand  `cmd:"" help:"Ask a running broker whether it is ready; for container health checks."`
	Version versionCommand `cmd:"" help:"Print the version."`
}

// process is what a command has from the process that runs it, so that tests can give it something else.
type process struct {
	stdin          io.Reader // nil: there is none
	stdout, stderr io.Writer
	environ        []string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], process{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, environ: os.Environ()}))
}

// run parses the arguments and does what they say. It returns the exit status: 0, 1 for a command that failed, 2 for one that
// was not understood.
func run(ctx context.Context, args []string, p process) int {
	var cli commands
	exit := -1
	parser, err := kong.New(&cli,
		kong.Name("portico"),
		kong.Description("An open-source federation broker: apps integrate once, people sign in with Google, Facebook, GitHub or any OpenID provider."),
		kong.Writers(p.stdout, p.stderr),
		kong.Exit(func(status int) { exit = status }),
		kong.UsageOnError(),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(p),
	)
	if err != nil {
		fmt.Fprintln(p.stderr, "portico:", err)
		return 2
	}
	parsed, err := parser.Parse(args)
	if exit >= 0 { // --help has been printed
		return exit
	}
	if err != nil {
		fmt.Fprintln(p.stderr, "portico:", err)
		return 2
	}
	if err := parsed.Run(); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(p.stderr, "portico:", err)
		return 1
	}
	return 0
}

// configFlag names the configuration of every command that needs one.
type configFlag struct {
	Config string `short:"c" help:"The configuration file." type:"path" default:"portico.yaml" env:"PORTICO_CONFIG"`
}

func (f configFlag) load(p process) (*config.Config, error) {
	return config.Load(f.Config, p.environ)
}

// newLog writes structured lines to standard error, so that standard output is a command's own.
func newLog(cfg *config.Config, p process) *slog.Logger {
	options := &slog.HandlerOptions{Level: cfg.Log.Level.Slog()}
	if cfg.Log.Format == "text" {
		return slog.New(slog.NewTextHandler(p.stderr, options))
	}
	return slog.New(slog.NewJSONHandler(p.stderr, options))
}
