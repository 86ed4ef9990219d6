package clientdoc

import "time"

// How many documents may be fetched in a minute, by this node: for one who asks, from one host, and altogether. A host that serves
// many apps is asked for each once in fetch.MinFresh at the most; an asker is a person, or an office behind one address.
const (
	perAsker = 30
	perHost  = 60
	perNode  = 300
	// maxRates bounds what is remembered of askers and hosts; all of it is forgotten within a minute.
	maxRates = 4096
)

// rates says for each key until when what was done is worked off, at the allowed rate (the generic cell rate algorithm, as in
// broker/quota; these need not hold across nodes).
type rates map[string]time.Time

// allow counts a fetch, if every bound permits it.
func (r rates) allow(asker, host string, now time.Time) bool {
	if len(r) >= maxRates {
		for key, until := range r {
			if !until.After(now) {
				delete(r, key)
			}
		}
		if len(r) >= maxRates {
			return false
		}
	}
	bounds := map[string]int{"asker " + asker: perAsker, "host " + host: perHost, "all": perNode}
	for key, most := range bounds {
		if r.after(key, most, now).Sub(now) > time.Minute {
			return false
		}
	}
	for key, most := range bounds {
		r[key] = r.after(key, most, now)
	}
	return true
}

// after is until when a key is worked off if it is used once more.
func (r rates) after(key string, most int, now time.Time) time.Time {
	until := r[key]
	if until.Before(now) {
		until = now
	}
	return until.Add(time.Minute / time.Duration(most))
}
