package signin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/portico-id/portico/broker/audit"
	"github.com/portico-id/portico/broker/device"
	"github.com/portico-id/portico/broker/flow"
	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/broker/throttle"
	"github.com/portico-id/portico/broker/web"
	"github.com/portico-id/portico/templates"
)

// A person connects a device (RFC 8628 section 3.3): types its code, signs in as for any app, and is then asked whether this app, on
// that device, may have what it asked for. The asking is the defence against remote phishing (section 5.4), so nothing skips it: not a link
// that has the code in it, not a session, not an earlier yes, not an app of the operator's own.

const pathDevice = "/device"

// showDevice shows the page for the code. A code in the link (verification_uri_complete, RFC 8628 section 3.3.1) is filled in and no
// more: it is looked at when the person sends it.
func (s *Service) showDevice(w http.ResponseWriter, r *http.Request) {
	page := templates.DevicePage{}
	if typed := r.URL.Query().Get("user_code"); typed != "" {
		code, ok := device.ParseUserCode(typed)
		if ok {
			page.UserCode = device.FormatUserCode(code)
		} else {
			page.Notice = "The link that brought you here has no code in it that could be right. Enter the one that your device shows."
		}
	}
	s.devicePage(w, r, http.StatusOK, page)
}

func (s *Service) devicePage(w http.ResponseWriter, r *http.Request, status int, page templates.DevicePage) {
	s.Browser(w, r)
	page.Action = pathDevice
	s.send(w, r, status, s.o.Issuer+pathDevice, func(b *pageWriter) error { return s.o.Pages.Device(b, page) })
}

// enterDevice takes the code and begins the flow that answers it.
func (s *Service) enterDevice(w http.ResponseWriter, r *http.Request) {
	typed := r.PostFormValue("user_code")
	code, ok := device.ParseUserCode(typed)
	if !ok {
		if len(typed) > maxTypedAgain {
			typed = ""
		}
		s.devicePage(w, r, http.StatusBadRequest, templates.DevicePage{
			UserCode: typed,
			Notice:   "That cannot be a code. It has eight letters, none of them A, E, I, O, U or Y, and no digits.",
		})
		return
	}
	doc, client, wait, err := s.findDevice(r, code)
	switch {
	case err != nil:
		s.showError(w, r, nil, *ourFault(err))
	case wait > 0:
		s.o.Log.WarnContext(r.Context(), "too many wrong device codes", slog.Duration("wait", wait))
		w.Header().Set("Retry-After", strconv.Itoa(int((wait+time.Second-1)/time.Second)))
		s.devicePage(w, r, http.StatusTooManyRequests, templates.DevicePage{
			UserCode: device.FormatUserCode(code),
			Notice:   "Too many wrong codes were entered. To keep guessers out, the next one has to wait: press Continue in " + toWait(wait) + ".",
		})
	case doc == nil:
		s.devicePage(w, r, http.StatusBadRequest, templates.DevicePage{
			UserCode: device.FormatUserCode(code),
			Notice:   "No device waits with this code. It may be mistyped, expired, or used already.",
		})
	default:
		f := s.o.Flows.Draft(doc.Value.Request, s.Browser(w, r))
		f.Value.Device = &flow.Device{Handle: device.Handle(doc), UserCode: code}
		s.Proceed(w, r, f, client)
	}
}

// maxTypedAgain bounds what a person typed that is shown to them again.
const maxTypedAgain = 64

// The limits on entering codes. A wrong code costs a try, a right one none. What they leave a guesser is reckoned up beside the codes
// themselves, in broker/device.
var (
	// guessesOfOne bounds one address, one browser and one account: ten slips are free; whoever guesses on gets about fifteen guesses
	// an hour, by waiting or by starting over.
	guessesOfOne = throttle.Limit{Free: 10, First: 10 * time.Second, Max: 5 * time.Minute, Memory: time.Hour}
	// guessesOfAll bounds all of them in one hour, for those who have many addresses. To use it up takes more than six hundred.
	guessesOfAll = throttle.Limit{Free: 10_000, First: time.Second, Max: time.Minute, Memory: 2 * time.Hour}
)

// What tries are counted under.
const (
	guessesByAddress = "device.address"
	guessesByBrowser = "device.browser"
	guessesByAccount = "device.account"
	guessesInTotal   = "device.total"
)

// guesser is one thing that a person's tries are counted by.
type guesser struct{ purpose, value string }

// guessersOf are what the tries of a request are counted by. Whoever is signed in is counted by account, and not with the
// others at the same address or everywhere: a guesser among them must not keep all of them out.
func (s *Service) guessersOf(r *http.Request) (all []guesser, signedIn bool, err error) {
	session, err := s.goodSession(r)
	if err != nil {
		return nil, false, err
	}
	if session != nil {
		all = append(all, guesser{guessesByAccount, session.AccountID})
	} else if ip := web.ClientIP(r.Context()); ip.IsValid() {
		all = append(all, guesser{guessesByAddress, throttle.Address(ip)})
	}
	if browser := s.o.Sessions.Browser(r); browser != "" {
		all = append(all, guesser{guessesByBrowser, browser})
	}
	return all, session != nil, nil
}

// findDevice looks a code up and counts it if it was a guess. wait says that nothing was looked up, and for how long to
// wait; doc is nil if nobody was given the code.
func (s *Service) findDevice(r *http.Request, code string) (doc *device.Doc, client *registry.Client, wait time.Duration, err error) {
	ctx := r.Context()
	hour := s.o.Now().Truncate(time.Hour).Format(time.RFC3339)
	guessers, signedIn, err := s.guessersOf(r)
	if err != nil {
		return nil, nil, 0, err
	}
	if !signedIn {
		if wait, err = s.o.Throttle.Wait(ctx, guessesInTotal, hour, guessesOfAll); err != nil || wait > 0 {
			return nil, nil, wait, err
		}
	}
	for i, g := range guessers {
		if wait, err = s.o.Throttle.Try(ctx, g.purpose, g.value, guessesOfOne); err != nil || wait > 0 {
			return nil, nil, wait, errors.Join(err, s.forgive(ctx, guessers[:i]))
		}
	}
	doc, client, err = s.deviceOf(ctx, code)
	if err != nil {
		return nil, nil, 0, err
	}
	if doc != nil {
		return doc, client, 0, s.forgive(ctx, guessers)
	}
	// Counted after the fact, so that those who typed it right do not all write one document. A few more than allowed may
	// slip through at once; each guesser's own are counted before.
	_, err = s.o.Throttle.Try(ctx, guessesInTotal, hour, guessesOfAll)
	return nil, nil, 0, err
}

func (s *Service) forgive(ctx context.Context, guessers []guesser) error {
	var failed error
	for _, g := range guessers {
		failed = errors.Join(failed, s.o.Throttle.Forgive(ctx, g.purpose, g.value))
	}
	return failed
}

// deviceOf is the authorization that waits under a code, and its client; nil if there is none.
func (s *Service) deviceOf(ctx context.Context, code string) (*device.Doc, *registry.Client, error) {
	doc, err := s.o.Devices.Find(ctx, code)
	if errors.Is(err, device.ErrExpired) || errors.Is(err, device.ErrAnswered) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	client, err := s.o.Clients.Get(ctx, doc.Value.Request.ClientID)
	if errors.Is(err, registry.ErrNotFound) || err == nil && client.Disabled {
		return nil, nil, nil
	}
	return doc, client, err
}

// toWait is a time to wait, as people say it, rounded up.
func toWait(d time.Duration) string {
	if d <= time.Minute {
		return fmt.Sprintf("%d seconds", int((d+time.Second-1)/time.Second))
	}
	return fmt.Sprintf("%d minutes", int((d+time.Minute-1)/time.Minute))
}

var deviceOverPage = ErrorPage{
	Status:  http.StatusGone,
	Title:   "This code is over",
	Message: "It has expired, or somebody has answered already. Nothing was done.",
	ToDo:    "If you still want to connect your device, let it show a new code, and enter that one.",
}

// showDeviceConsent asks for the person's word, with all that gives a phisher away.
func (s *Service) showDeviceConsent(w http.ResponseWriter, r *http.Request, doc *flow.Doc, client *registry.Client) {
	f := &doc.Value
	waiting, err := s.o.Devices.Get(r.Context(), f.Device.Handle)
	if s.deviceOver(w, r, err) {
		return
	}
	account, err := s.o.Accounts.Get(r.Context(), f.SignIn.AccountID)
	if err != nil {
		s.showError(w, r, nil, *ourFault(err))
		return
	}
	asked, err := s.askedScopes(r.Context(), &f.Request, client)
	if err != nil {
		s.showError(w, r, nil, *ourFault(err))
		return
	}
	details, err := s.askedDetails(r.Context(), &f.Request)
	if err != nil {
		s.showError(w, r, nil, *ourFault(err))
		return
	}
	from := waiting.Value.Origin
	page := templates.DeviceConfirmPage{
		App:          app(client, ""),
		UserCode:     device.FormatUserCode(f.Device.UserCode),
		Action:       action(doc.ID, "consent"),
		SwitchAction: action(doc.ID, "switch"),
		Account:      templates.AccountView{Name: account.Name, Email: account.Email, Picture: account.Picture},
		Details:      details,
		Address:      from.Address,
		SameNetwork:  sameNetwork(from.Address, web.ClientIP(r.Context())),
		Age:          s.o.Now().Sub(waiting.Value.CreatedAt),
		UserAgent:    from.UserAgent,
	}
	for _, scope := range asked {
		page.Scopes = append(page.Scopes, scope.view)
	}
	s.page(w, r, doc, http.StatusOK, func(b *pageWriter) error { return s.o.Pages.DeviceConfirm(b, page) })
}

// sameNetwork says whether a device's request came from where this browser is: the same address, or the same IPv6 network.
func sameNetwork(address string, here netip.Addr) bool {
	there, err := netip.ParseAddr(address)
	return err == nil && here.IsValid() && throttle.Address(there) == throttle.Address(here)
}

// deviceOver shows why an authorization cannot be answered, and says whether it did.
func (s *Service) deviceOver(w http.ResponseWriter, r *http.Request, err error) bool {
	switch {
	case err == nil:
		return false
	case errors.Is(err, device.ErrExpired), errors.Is(err, device.ErrAnswered):
		page := deviceOverPage
		page.Cause = err
		s.showError(w, r, nil, page)
	default:
		s.showError(w, r, nil, *ourFault(err))
	}
	return true
}

// answerDevice takes the person's answer to the device. A yes is not remembered as consent: the next device asks again anyway, and a
// person who was tricked once should not find that an app may have what it wants for good.
//
// The device's document is written before the flow: what it says is what holds, and it takes the same answer of one flow twice.
func (s *Service) answerDevice(w http.ResponseWriter, r *http.Request, doc *flow.Doc) {
	f := &doc.Value
	var answer device.Answer
	var by *flow.SignIn
	event := audit.Event{Kind: audit.DeviceDenied, AccountID: f.SignIn.AccountID, ClientID: f.Request.ClientID, Connector: f.SignIn.Connector, GrantID: device.ID(f.Device.Handle)}
	switch r.PostFormValue("decision") {
	case "allow":
		// What the device may do is no part of this browser's session: to sign out here does not sign out there.
		signIn := *f.SignIn
		signIn.SessionID = ""
		answer, by, event.Kind = device.Approved, &signIn, audit.DeviceApproved
		f.Grant(s.o.Now())
	case "deny":
		answer, f.Device.Denied = device.Denied, true
		f.Fail("access_denied", "the person said no")
	default:
		s.toPage(w, r, doc.ID)
		return
	}
	first, err := s.o.Devices.Answer(r.Context(), f.Device.Handle, doc.ID, answer, by)
	if s.deviceOver(w, r, err) {
		return
	}
	if first {
		s.record(r, event)
	}
	s.advance(w, r, doc)
}

// showDeviceDone says what came of a flow whose answer went to a device.
func (s *Service) showDeviceDone(w http.ResponseWriter, r *http.Request, doc *flow.Doc, client *registry.Client) {
	page := templates.DeviceDonePage{App: app(client, ""), AgainURL: pathDevice}
	switch f := &doc.Value; {
	case f.Step == flow.Done:
		page.Outcome = templates.DeviceConnected
	case f.Device.Denied:
		page.Outcome = templates.DeviceDenied
	case f.Failure.Code == "login_required":
		page.Reason = "It asked for somebody else than the account that you signed in with."
	case f.Failure.Code == "unmet_authentication_requirements":
		page.Reason = "It asked for a stronger way to sign in than the one that you used."
	}
	s.page(w, r, doc, http.StatusOK, func(b *pageWriter) error { return s.o.Pages.DeviceDone(b, page) })
}
