package main

import (
	"fmt"

	"github.com/portico-id/portico/broker"
)

type configCommand struct {
	Check configCheck `cmd:"" help:"Say what is wrong with the configuration, each with its line; nothing is started."`
}

type configCheck struct {
	configFlag
}

// Run reads the configuration, the environment over it, and everything that a broker made of it would refuse.
func (c configCheck) Run(p process) error {
	cfg, err := c.load(p)
	if err != nil {
		return err
	}
	if err := broker.Check(cfg); err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.stdout, "%s is good: %s, %d connectors, %d clients\n", c.Config, cfg.Issuer, len(cfg.Connectors), len(cfg.Clients))
	return err
}
