package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"strings"
)

// Load reads the file, puts the environment (as [os.Environ] has it) over it, fills in the defaults and validates. Without a
// path there is no file, and the environment is all. Paths in the configuration are relative to the working
// directory. What is wrong with the content is of type [Problems]; a file that cannot be read is not.
func Load(path string, environ []string) (*Config, error) {
	if path == "" {
		return Parse(nil, "environment", environ)
	}
	data, err := readBounded(path, maxFileBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no configuration file %s; portico.example.yaml is one to start from: %w", path, err)
	}
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	return Parse(data, path, environ)
}

// Parse is [Load] for a file that has been read. Name is what problems call it. It still reads the secrets' files.
func Parse(data []byte, name string, environ []string) (*Config, error) {
	r := &reader{file: name, origins: map[string]origin{}, spoilt: map[string]bool{}}
	c := base()
	r.decode(data, c)
	r.overlay(environ, c)
	c.complete()
	r.secrets(reflect.ValueOf(c).Elem(), "")
	for _, p := range c.validate() {
		if !r.follows(p.Path) && !r.full() {
			o := r.origin(p.Path)
			p.Source, p.Line = o.source, o.line
			r.problems = append(r.problems, p)
		}
	}
	r.problems.sort(name)
	if r.full() {
		r.problems = append(r.problems, Problem{Source: name, Message: "is reported no further: these are enough to begin with"})
	}
	if err := r.problems.err(); err != nil {
		return nil, err
	}
	return c, nil
}

// follows says whether a problem with the value at path is but a consequence of one that has been reported.
func (r *reader) follows(path string) bool {
	for {
		if r.spoilt[path] {
			return true
		}
		if path == "" {
			return false
		}
		path = parent(path)
	}
}

// maxSecretFileBytes bounds a secret's file: the longest secret allowed and a line break.
const maxSecretFileBytes = maxTextBytes + 2

// secrets reads the files that hold secrets.
func (r *reader) secrets(section reflect.Value, path string) {
	keys := keysOf(section.Type())
	for _, k := range keys {
		field, at := section.FieldByIndex(k.index), join(path, k.name)
		switch kindOf(k.of) {
		case kindSection:
			r.secrets(field, at)
		case kindList:
			for i := range field.Len() {
				r.secrets(field.Index(i), item(at, i))
			}
		}
		if k.secret == "" || field.String() == "" {
			continue
		}
		for _, s := range keys {
			if s.name != k.secret {
				continue
			}
			secret := section.FieldByIndex(s.index)
			if !secret.IsZero() {
				r.report(r.origin(at), at, "is given beside "+k.secret+"; one of them is enough")
				continue
			}
			value, err := readSecret(field.String())
			if err != nil {
				r.report(r.origin(at), at, err.Error())
				r.spoilt[join(path, k.secret)] = true
				continue
			}
			secret.Set(reflect.ValueOf(NewSecret(value)))
		}
	}
}

// readSecret is the content of a file without the line break that editors and echo leave at its end.
func readSecret(path string) (string, error) {
	content, err := readBounded(path, maxSecretFileBytes)
	if err != nil {
		return "", fmt.Errorf("the secret cannot be read: %w", err)
	}
	value := strings.TrimRight(string(content), "\r\n")
	if value == "" {
		return "", fmt.Errorf("the secret cannot be read: %s is empty", path)
	}
	return value, nil
}

func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(content)) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes", path, limit)
	}
	return content, nil
}
