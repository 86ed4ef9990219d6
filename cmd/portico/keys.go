package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"text/tabwriter"
	"time"

	"github.com/portico-id/portico/broker"
	"github.com/portico-id/portico/broker/token"
)

type keysCommand struct {
	List   keysList   `cmd:"" help:"List the signing keys."`
	Rotate keysRotate `cmd:"" help:"Make a new signing key. It is published at once and signs a day later, when every cache knows it."`
}

// withKeys opens the signing keys for one command.
func (f storeFlags) withKeys(ctx context.Context, p process, do func(keys *token.Keys) error) error {
	cfg, err := f.load(p)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(p.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	b, err := broker.New(ctx, cfg, broker.Options{Log: log})
	if err != nil {
		return err
	}
	keys := b.Keys()
	return errors.Join(func() error {
		if err := keys.Wait(ctx); err != nil {
			return err
		}
		return do(keys)
	}(), b.Close())
}

type keysList struct {
	storeFlags
}

// Run lists the signing keys: what signs, what is published to sign soon, and what verifies old tokens.
func (c keysList) Run(ctx context.Context, p process) error {
	return c.withKeys(ctx, p, func(keys *token.Keys) error {
		list, err := keys.List(ctx)
		if err != nil {
			return err
		}
		return c.print(p, list)
	})
}

type keysRotate struct {
	storeFlags
	Alg string `arg:"" help:"RS256, ES256 or EdDSA."`
}

// Run makes a successor for the signing key of an algorithm.
func (c keysRotate) Run(ctx context.Context, p process) error {
	return c.withKeys(ctx, p, func(keys *token.Keys) error {
		key, err := keys.Rotate(ctx, c.Alg)
		if err != nil {
			return err
		}
		return c.print(p, []token.KeyInfo{key})
	})
}

func (f storeFlags) print(p process, list []token.KeyInfo) error {
	if f.JSON {
		views := make([]keyView, 0, len(list))
		for _, k := range list {
			views = append(views, keyView{
				KeyID: k.KeyID, Algorithm: k.Algorithm, State: string(k.State), Created: k.Created,
				SignsFrom: k.SignsFrom, RetiredAt: k.RetiredAt, RemovedAt: k.RemovedAt,
			})
		}
		return printJSON(p.stdout, views)
	}
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "KEY ID\tALGORITHM\tSTATE\tSIGNS FROM")
	for _, k := range list {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", k.KeyID, k.Algorithm, k.State, k.SignsFrom.Format(time.RFC3339))
	}
	return w.Flush()
}

// keyView is a signing key as the commands print it.
type keyView struct {
	KeyID     string    `json:"kid"`
	Algorithm string    `json:"alg"`
	State     string    `json:"state"`
	Created   time.Time `json:"created"`
	SignsFrom time.Time `json:"signs_from"`
	RetiredAt time.Time `json:"retired_at,omitzero"`
	RemovedAt time.Time `json:"removed_at,omitzero"`
}
