// Package sampleapi is an API that keeps people's notes, small enough to read from top to bottom. Who may read and who
// may write is said by the broker's tokens; the package broker/resource checks them, and is all of Portico that it uses.
//
// `portico dev` serves it; examples/sampleapi/cmd/sampleapi runs it alone.
package sampleapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"mime"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/portico-id/portico/broker/resource"
)

// The scopes that the API is registered with at the broker.
const (
	ScopeRead  = "notes:read"
	ScopeWrite = "notes:write"
)

// Config is what the API was given when it was registered with the broker.
type Config struct {
	Issuer       string // the broker
	URL          string // the API's own address, without a slash at the end, which is its identifier too
	ClientID     string // the client that is its resource server: as it, the API asks whether a token has been revoked
	ClientSecret string //
	Log          *slog.Logger
}

// The API's memory is bounded: the oldest is forgotten. A real one keeps its notes in a database.
const (
	maxPeople = 200
	maxNotes  = 100     // of a person
	maxText   = 1000    // bytes of a note
	maxBody   = 8 << 10 // bytes of a request: of such a note, with all of it escaped
)

// Note is what people write.
type Note struct {
	ID        int       `json:"id"`
	Text      string    `json:"text"`
	CreatedAt time.Time `json:"created_at"`
	ClientID  string    `json:"client_id"` // the app that wrote it
}

// API is the API. It may serve requests concurrently.
type API struct {
	config Config
	mux    *http.ServeMux

	mu    sync.Mutex
	notes map[string][]Note // by the subject of the token
	order []string          // of the subjects, the one that wrote its first note before all others first
	last  int               // note's id
}

// New makes the API. The broker need not be there yet.
func New(config Config) (*API, error) {
	protect, err := resource.New(resource.Options{
		Issuer:       config.Issuer,
		Identifier:   config.URL,
		Scopes:       []string{ScopeRead, ScopeWrite},
		ClientID:     config.ClientID,
		ClientSecret: config.ClientSecret,
		// Its tokens are JWTs, which are good until they expire. With these two, one that was revoked is refused at once.
		CheckRevoked: true,
		CacheFor:     -1,
		Log:          config.Log,
	})
	if err != nil {
		return nil, err
	}
	a := &API{config: config, mux: http.NewServeMux(), notes: map[string][]Note{}}
	a.mux.HandleFunc("GET /{$}", a.about)
	a.mux.Handle("GET "+protect.MetadataPath(), protect.Metadata()) // where clients find the broker (RFC 9728)
	a.mux.Handle("GET /notes", protect.Protect(http.HandlerFunc(a.list), ScopeRead))
	a.mux.Handle("POST /notes", protect.Protect(http.HandlerFunc(a.write), ScopeWrite))
	return a, nil
}

func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	a.mux.ServeHTTP(w, r)
}

// about says what this is to whoever opens it in a browser.
func (a *API) about(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, map[string]any{
		"name": "Sample notes", "resource": a.config.URL, "authorization_server": a.config.Issuer,
		"endpoints": map[string]string{"GET " + a.config.URL + "/notes": ScopeRead, "POST " + a.config.URL + "/notes": ScopeWrite},
	})
}

// list shows the notes of whom the token speaks for, and nobody else's.
func (a *API) list(w http.ResponseWriter, r *http.Request) {
	subject := resource.FromContext(r.Context()).Subject
	a.mu.Lock()
	notes := slices.Clone(a.notes[subject])
	a.mu.Unlock()
	if notes == nil {
		notes = []Note{} // [] in JSON, rather than null
	}
	answer(w, http.StatusOK, map[string]any{"notes": notes})
}

// write keeps a note.
func (a *API) write(w http.ResponseWriter, r *http.Request) {
	text, err := readText(w, r)
	if err != nil {
		status := http.StatusBadRequest
		if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
			status = http.StatusRequestEntityTooLarge
		}
		answer(w, status, map[string]string{"error": "invalid_request", "error_description": err.Error()})
		return
	}
	token := resource.FromContext(r.Context())
	answer(w, http.StatusCreated, a.keep(token.Subject, Note{Text: text, CreatedAt: time.Now().UTC(), ClientID: token.ClientID}))
}

// readText is the text of a note, in JSON or a form.
func readText(w http.ResponseWriter, r *http.Request) (string, error) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	var note struct {
		Text string `json:"text"`
	}
	switch kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind {
	case "application/json":
		if err := json.NewDecoder(r.Body).Decode(&note); err != nil {
			return "", fmt.Errorf(`want {"text": "…"}: %w`, err)
		}
	case "application/x-www-form-urlencoded":
		if err := r.ParseForm(); err != nil {
			return "", err
		}
		note.Text = r.PostForm.Get("text")
	default:
		return "", errors.New("want application/json or application/x-www-form-urlencoded")
	}
	if len(note.Text) == 0 || len(note.Text) > maxText {
		return "", fmt.Errorf("text: want 1 to %d bytes", maxText)
	}
	return note.Text, nil
}

// keep gives the note its id and remembers it.
func (a *API) keep(subject string, n Note) Note {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.notes[subject] == nil {
		if len(a.order) == maxPeople {
			delete(a.notes, a.order[0])
			a.order = a.order[1:]
		}
		a.order = append(a.order, subject)
	}
	a.last++
	n.ID = a.last
	notes := append(a.notes[subject], n)
	a.notes[subject] = notes[max(0, len(notes)-maxNotes):]
	return n
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // The only error is a client that hung up.
}
