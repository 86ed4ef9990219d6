package token

import (
	"time"
)

// timeline is the place of one key among those of its algorithm and the time from which it
// signs.
type timeline struct {
	sequence  int
	signsFrom time.Time
}

// timelineOf picks the keys of one algorithm, oldest first.
func timelineOf(stored []*storedKey, alg string) []timeline {
	var keys []timeline
	for _, s := range stored {
		if s.key.alg == alg {
			keys = append(keys, timeline{s.sequence, s.doc.Value.SignsFrom})
		}
	}
	return keys
}

// nextKey decides whether an algorithm needs another key now, which place it takes and from when it
// signs. The first key signs at once, for nobody can have cached a set without it that
// he would take a token from. A later one is made PublishAhead before its predecessor's time is
// over, or, where that moment was missed, signs PublishAhead from now.
func nextKey(keys []timeline, now time.Time, opts KeysOptions) (sequence int, signsFrom time.Time, due bool) {
	if len(keys) == 0 {
		return 1, now, true
	}
	newest := keys[len(keys)-1]
	if opts.RotateEvery == 0 {
		return 0, time.Time{}, false
	}
	signsFrom = newest.signsFrom.Add(opts.RotateEvery)
	earliest := now.Add(opts.PublishAhead)
	if signsFrom.After(earliest) {
		return 0, time.Time{}, false
	}
	if signsFrom.Before(earliest) {
		signsFrom = earliest
	}
	return newest.sequence + 1, signsFrom, true
}

// signingKey returns which of the keys of one algorithm signs now: the newest whose time has
// come, or, where none's has because this node's clock is behind, the oldest; -1 if there
// is none.
func signingKey(keys []timeline, now time.Time) int {
	for i := len(keys) - 1; i >= 0; i-- {
		if !keys[i].signsFrom.After(now) {
			return i
		}
	}
	return min(0, len(keys)-1)
}

// retiredAt is when the successor of stored[i] signs; false if there is no successor.
func retiredAt(stored []*storedKey, i int) (time.Time, bool) {
	if i+1 == len(stored) || stored[i+1].key.alg != stored[i].key.alg {
		return time.Time{}, false
	}
	return stored[i+1].doc.Value.SignsFrom, true
}

// keyInfos describes keys that are in order of algorithm and sequence.
func keyInfos(stored []*storedKey, now time.Time, keepAfter time.Duration) []KeyInfo {
	infos := make([]KeyInfo, 0, len(stored))
	for i, s := range stored {
		info := KeyInfo{
			ID:        s.doc.ID,
			KeyID:     s.doc.Value.KeyID,
			Algorithm: s.key.alg,
			Created:   s.doc.Value.Created,
			SignsFrom: s.doc.Value.SignsFrom,
			State:     KeySigning,
		}
		keys := timelineOf(stored, s.key.alg)
		switch signs := keys[signingKey(keys, now)].sequence; {
		case s.sequence > signs:
			info.State = KeyPending
		case s.sequence < signs:
			info.State = KeyRetired
		}
		if retired, ok := retiredAt(stored, i); ok {
			info.RetiredAt, info.RemovedAt = retired, retired.Add(keepAfter)
		}
		infos = append(infos, info)
	}
	return infos
}
