package config

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Whoever adds a key has to say in the guide what it is for; whoever removes one, to take it out of there.
func TestTheGuideHasEveryKey(t *testing.T) {
	guide, err := os.ReadFile("../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(guide), "## Every key")
	table, _, ended := strings.Cut(table, "\n## ")
	if !found || !ended {
		t.Fatal("docs/configuration.md has no section Every key")
	}
	want := keyPaths(reflect.TypeFor[Config](), "")
	var there []string
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 {
			continue
		}
		for _, name := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[1], -1) {
			if slices.Contains(there, name[1]) {
				t.Errorf("%s is there twice", name[1])
			}
			if !slices.Contains(want, name[1]) {
				t.Errorf("%s is in docs/configuration.md and is no key", name[1])
			}
			there = append(there, name[1])
		}
	}
	for _, path := range want {
		if !slices.Contains(there, path) {
			t.Errorf("%s is missing in docs/configuration.md", path)
		}
	}
}
