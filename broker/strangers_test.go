package broker_test

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	. "github.com/portico-id/portico/broker/brokertest"
)

// A pushed request and a device's codes are kept for whoever asks in the name of an app that shows nothing of who it is: one address could fill the
// store with them. It is bounded over all nodes and given back in time; an app that proves who it is, and that an operator has
// checked, is not counted.
func TestWhatIsKeptForAppsThatShowNothingIsBounded(t *testing.T) {
	const most = 60
	Each(t, func(t *testing.T, e *Env) {
		stranger := register(t, e, webApp).Client
		nodes := []*Env{e, e.Node(t)}
		device := func(e *Env, c Client) *Response {
			return e.Post(t, "/device_authorization", c, url.Values{"scope": {"openid"}})
		}
		for name, test := range map[string]struct {
			ask    func(e *Env) *Response
			proven func() *Response
			status int
		}{
			"requests pushed by a public app":               {func(e *Env) *Response { return push(t, e, Native) }, func() *Response { return push(t, e, Web) }, http.StatusCreated},
			"requests pushed by an app that nobody checked": {func(e *Env) *Response { return push(t, e, stranger) }, func() *Response { return push(t, e, Web) }, http.StatusCreated},
			"codes for a device":                            {func(e *Env) *Response { return device(e, TV) }, func() *Response { return device(e, Box) }, http.StatusOK},
		} {
			t.Run(name, func(t *testing.T) {
				defer e.Clock.Advance(time.Minute) // what is counted is the address's, whichever app it names
				made, begun := 0, time.Now()
				for n := range most + 30 {
					switch r := test.ask(nodes[n%2]); r.Status {
					case test.status:
						made++
					case http.StatusTooManyRequests:
						if r.String("error") != "temporarily_unavailable" || r.Header.Get("Retry-After") == "" {
							t.Fatalf("the app is told %v, and to come back after %q", r.Body, r.Header.Get("Retry-After"))
						}
					default:
						t.Fatalf("%d %v", r.Status, r.Body)
					}
				}
				// One is given back each second.
				if back := int(time.Since(begun)/time.Second) + 1; made < most || made > most+back {
					t.Errorf("%d of %d were kept, want %d, and %d that were given back", made, most+30, most, back)
				}
				if r := test.proven(); r.Status != test.status {
					t.Errorf("an app that proves who it is is held up: %d %v", r.Status, r.Body)
				}
				e.Clock.Advance(time.Minute)
				if r := test.ask(e); r.Status != test.status {
					t.Errorf("a minute later: %d %v", r.Status, r.Body)
				}
			})
		}
		// What is refused anyway is not kept, and costs nobody the address's share.
		for range most + 30 {
			push(t, e, Native, "scope", "nonsense")
		}
		if r := push(t, e, Native); r.Status != http.StatusCreated {
			t.Errorf("after requests that were refused: %d %v", r.Status, r.Body)
		}
	}, openRegistration, withDevices)
}
