package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing that is wrong with a configuration.
type Problem struct {
	Source  string // the file, or the environment variable; empty if the configuration came from neither
	Line    int    // in the file, from 1; 0 if it has none
	Path    string // of the key, such as connectors[0].client_id; empty for the file as a whole
	Message string // what was found and what is allowed; never a secret
}

// Error implements error: "portico.yaml:3: store.type: …".
func (p Problem) Error() string {
	var b strings.Builder
	if p.Source != "" {
		b.WriteString(p.Source)
		if p.Line > 0 {
			fmt.Fprintf(&b, ":%d", p.Line)
		}
		b.WriteString(": ")
	}
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	b.WriteString(p.Message)
	return b.String()
}

// Problems is everything that is wrong with a configuration: first what is in the file, by line, then the environment.
type Problems []Problem

// Error implements error: a line for each problem.
func (p Problems) Error() string {
	if len(p) == 1 {
		return p[0].Error()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "the configuration has %d problems:", len(p))
	for _, problem := range p {
		b.WriteString("\n  " + problem.Error())
	}
	return b.String()
}

// Unwrap gives each problem to [errors.Is] and [errors.As].
func (p Problems) Unwrap() []error {
	all := make([]error, len(p))
	for i := range p {
		all[i] = p[i]
	}
	return all
}

// err is p as an error: nil if there are none.
func (p Problems) err() error {
	if len(p) == 0 {
		return nil
	}
	return p
}

// sort puts the problems of the file before those of the environment, and the file's by line.
func (p Problems) sort(file string) {
	slices.SortStableFunc(p, func(a, b Problem) int {
		if (a.Source == file) != (b.Source == file) {
			if a.Source == file {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(a.Source, b.Source), cmp.Compare(a.Line, b.Line))
	})
}
