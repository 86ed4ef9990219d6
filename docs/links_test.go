// Package docs_test holds the guides to what they link to.
package docs_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

// root is the repository's, from this folder.
const root = ".."

var (
	fence   = regexp.MustCompile("(?ms)^```.*?^```")
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.+)$`)
)

// A guide that moves, or a heading that is worded anew, takes the links to it along.
func TestLinksLeadSomewhere(t *testing.T) {
	guides, found := read(t), 0
	for from, text := range guides {
		for _, match := range link.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
			target, anchor, _ := strings.Cut(match[1], "#")
			if strings.Contains(target, ":") {
				continue // another site's
			}
			found++
			to := from
			if target != "" {
				to = filepath.Join(filepath.Dir(from), target)
			}
			if _, err := os.Stat(filepath.Join(root, to)); err != nil {
				t.Errorf("%s links to %s, which is not there", from, match[1])
			} else if anchor != "" && !anchors(guides[to])[anchor] {
				t.Errorf("%s links to %s: %s has no such heading", from, match[1], to)
			}
		}
	}
	if found < 100 {
		t.Errorf("only %d links were found: they are written in another way now", found)
	}
}

// Whoever starts at the README finds every guide.
func TestTheReadmeListsEveryGuide(t *testing.T) {
	guides := read(t)
	for name := range guides {
		if filepath.Dir(name) == "docs" && !strings.Contains(guides["README.md"], "]("+filepath.ToSlash(name)+")") {
			t.Errorf("README.md does not lead to %s", name)
		}
	}
}

// read reads what is written for people, by its path in the repository.
func read(t *testing.T) map[string]string {
	t.Helper()
	guides := map[string]string{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := entry.Name(); entry.IsDir() && path != root && (strings.HasPrefix(name, ".") || name == "node_modules" || name == "testdata") {
			return fs.SkipDir
		}
		if filepath.Ext(path) != ".md" {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		guides[name] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return guides
}

// anchors are what the headings of a guide are called in addresses, as GitHub has it.
func anchors(text string) map[string]bool {
	names := map[string]bool{}
	for _, match := range heading.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		name := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-', r == '_', unicode.IsLetter(r), unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, match[1])
		for base, n := name, 1; names[name]; n++ {
			name = fmt.Sprintf("%s-%d", base, n)
		}
		names[name] = true
	}
	return names
}
