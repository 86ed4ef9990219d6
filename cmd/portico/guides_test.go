package main

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

var (
	shellBlock = regexp.MustCompile("(?ms)^```sh\n(.*?)^```")
	heredoc    = regexp.MustCompile(`(?ms)<<'EOF'\n.*?^EOF$`)
	file       = regexp.MustCompile(`^[\w-]+\.(json|jwks|yaml)$`)
)

// A flag or a command that gets another name takes the guides along: each command line there is one that is understood.
func TestTheGuidesCommandsAreUnderstood(t *testing.T) {
	guides, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{}
	for _, name := range append(guides, "../../README.md") {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		texts[filepath.Base(name)] = string(text)
	}
	t.Chdir(t.TempDir())
	found := 0
	for name, text := range texts {
		for _, block := range shellBlock.FindAllStringSubmatch(text, -1) {
			script := strings.ReplaceAll(heredoc.ReplaceAllString(block[1], ""), "\\\n", " ")
			for line := range strings.Lines(strings.ReplaceAll(script, "go run ./cmd/portico", "portico")) {
				args, ours := strings.CutPrefix(strings.TrimSpace(line), "portico ")
				if !ours {
					continue
				}
				found++
				given := words(args)
				for _, word := range given { // a file that whoever follows the guide has by then
					if file.MatchString(word) {
						if err := os.WriteFile(word, nil, 0o600); err != nil {
							t.Fatal(err)
						}
					}
				}
				var cli commands
				parser, err := kong.New(&cli, kong.Name("portico"), kong.Writers(io.Discard, io.Discard), kong.Exit(func(int) {}))
				if err != nil {
					t.Fatal(err)
				}
				if _, err := parser.Parse(given); err != nil {
					t.Errorf("%s: portico %s: %v", name, args, err)
				}
			}
		}
	}
	if found < 40 {
		t.Errorf("only %d commands were found: they are written in another way now", found)
	}
}

// words are the words of a command up to where the shell ends it, without their quotes.
func words(line string) []string {
	var all []string
	word, open := "", false
	quote := rune(0)
	for _, r := range line + " " {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word += string(r)
		case r == '\'' || r == '"':
			quote, open = r, true
		case strings.ContainsRune("|>&;#", r) && !open:
			return all
		case r == ' ' || r == '\n':
			if open {
				all = append(all, word)
			}
			word, open = "", false
		default:
			word, open = word+string(r), true
		}
	}
	return all
}
