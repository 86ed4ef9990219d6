package config

import (
	"cmp"
	"slices"
	"strings"
)

// nearest is the candidate that word is most likely a misspelling of, or "".
func nearest(word string, candidates []string) string {
	plain := plainKey(word)
	best, bestDistance := "", 0
	for _, candidate := range candidates {
		distance := editDistance(plain, plainKey(candidate))
		// One slip in four letters is a misspelling; more is another word.
		if distance > max(1, min(len(plain), len(candidate))/4) {
			continue
		}
		if best == "" || distance < bestDistance {
			best, bestDistance = candidate, distance
		}
	}
	return best
}

// plainKey is a key without what people vary: case, '-' and '_'.
func plainKey(s string) string {
	return strings.NewReplacer("-", "", "_", "").Replace(strings.ToLower(s))
}

// maxCompared bounds the words that are compared: no key is longer, and comparing takes the product of the lengths.
const maxCompared = 100

// editDistance is the number of letters to insert, remove, replace or swap with the next (optimal string alignment).
func editDistance(a, b string) int {
	if len(a) > maxCompared || len(b) > maxCompared {
		return maxCompared
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row[0] = i + 1
		for j := range len(b) {
			different := 1
			if a[i] == b[j] {
				different = 0
			}
			row[j+1] = min(last[j+1]+1, row[j]+1, last[j]+different)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}

// oneOf says what is wrong with a value that is none of the allowed ones.
func oneOf(value string, allowed ...string) string {
	if slices.Contains(allowed, value) {
		return ""
	}
	message := quote(value) + " is not one of " + strings.Join(allowed, ", ")
	if near := nearest(value, allowed); near != "" {
		message += "; did you mean " + near + "?"
	}
	return message
}

// DidYouMean is a question to end an error about a word with: which of the candidates it may be a misspelling of. "" if it looks like none.
func DidYouMean(word string, candidates []string) string {
	return didYouMean(nearest(word, candidates))
}

// didYouMean is the question, or nothing.
func didYouMean(candidates ...string) string {
	if s := cmp.Or(candidates...); s != "" {
		return "; did you mean " + s + "?"
	}
	return ""
}
