package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/term"

	"github.com/portico-id/portico/broker"
	"github.com/portico-id/portico/broker/identity"
	"github.com/portico-id/portico/broker/password"
	"github.com/portico-id/portico/broker/store"
)

type accountCommand struct {
	Add         accountAdd         `cmd:"" help:"Make a local account, with a username and a password."`
	List        accountList        `cmd:"" help:"List all accounts."`
	Show        accountShow        `cmd:"" help:"Show one account: its logins, and what apps may do for it."`
	SetPassword accountSetPassword `cmd:"" help:"Give an account another password; what came of the one before ends."`
	Disable     accountDisable     `cmd:"" help:"Keep an account from signing in, and end its sessions and tokens at once."`
	Enable      accountEnable      `cmd:"" help:"Let a disabled account sign in again."`
	Remove      accountRemove      `cmd:"" help:"Remove an account for good, with everything that belongs to it."`
}

// accountName is which account a command is about.
type accountName struct {
	Account string `arg:"" help:"The account's id or username."`
}

// on opens the store for one command that is about one account.
func (f storeFlags) on(ctx context.Context, p process, name string, do func(d *broker.Data, id string) error) error {
	return f.with(ctx, p, func(d *broker.Data) error {
		id, err := d.Managed.Find(ctx, name)
		if err == nil {
			err = do(d, id)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
}

// passwordFlag is where a password comes from. Never from an argument, which everybody on the machine can read, and which shells remember.
type passwordFlag struct {
	PasswordFile string `help:"A file with the password. Without it: a prompt, or standard input." type:"path" placeholder:"FILE"`
}

// errDiffer says that a password was typed in two ways.
var errDiffer = errors.New("the two passwords differ")

// read is the password, without the line break that ends it.
func (f passwordFlag) read(p process) (string, error) {
	if f.PasswordFile != "" {
		file, err := os.Open(f.PasswordFile)
		if err != nil {
			return "", err
		}
		defer file.Close()
		return readPassword(file)
	}
	terminal, ok := p.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(terminal.Fd())) {
		if p.stdin == nil {
			return "", errors.New("there is no standard input to read the password from; give --password-file")
		}
		return readPassword(p.stdin)
	}
	first, err := ask(p, terminal, "Password: ")
	if err != nil {
		return "", err
	}
	second, err := ask(p, terminal, "Once more: ")
	if err != nil {
		return "", err
	}
	if first != second {
		return "", errDiffer
	}
	return first, nil
}

// ask reads a line from a terminal without showing it.
func ask(p process, terminal *os.File, prompt string) (string, error) {
	fmt.Fprint(p.stderr, prompt)
	line, err := term.ReadPassword(int(terminal.Fd()))
	fmt.Fprintln(p.stderr)
	return string(line), err
}

// readPassword reads the whole of a file or pipe: a password may have spaces, and even line breaks, anywhere but at its end.
func readPassword(r io.Reader) (string, error) {
	content, err := io.ReadAll(io.LimitReader(r, password.MaxBytes+3)) // with a line break, and one byte to tell that it is too long
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	line := strings.TrimSuffix(strings.TrimSuffix(string(content), "\n"), "\r")
	if line == "" {
		return "", errors.New("the password is empty")
	}
	return line, nil
}

type accountAdd struct {
	storeFlags
	passwordFlag
	Username      string `help:"What the person signs in with." required:""`
	Name          string `help:"The person's name, as apps and pages show it."`
	GivenName     string `help:"The given name." placeholder:"NAME"`
	FamilyName    string `help:"The family name." placeholder:"NAME"`
	Email         string `help:"The person's email address." placeholder:"ADDRESS"`
	EmailVerified bool   `help:"You know that the address is theirs."`
	Picture       string `help:"An https address of a picture." placeholder:"URL"`
	Locale        string `help:"The person's language, such as en-GB."`
}

// Run makes a local account.
func (c accountAdd) Run(ctx context.Context, p process) error {
	secret, err := c.passwordFlag.read(p)
	if err != nil {
		return err
	}
	return c.with(ctx, p, func(d *broker.Data) error {
		account, err := d.Managed.Add(ctx, c.Username, secret, identity.Person{
			Name: c.Name, GivenName: c.GivenName, FamilyName: c.FamilyName, Email: c.Email, EmailVerified: c.EmailVerified,
			Picture: c.Picture, Locale: c.Locale,
		})
		if err != nil {
			return fmt.Errorf("%s: %w", c.Username, err)
		}
		return c.printAccount(p, accountViewOf(account))
	})
}

type accountList struct {
	storeFlags
}

// Run lists all accounts, those of the configuration first. A table is printed page by page.
func (c accountList) Run(ctx context.Context, p process) error {
	return c.with(ctx, p, func(d *broker.Data) error {
		views := []accountView{}
		w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "ACCOUNT ID\tUSERNAME\tNAME\tEMAIL\tSTATE")
		for after, more := "", true; more; {
			page, next, err := d.Accounts.List(ctx, after)
			if err != nil {
				return err
			}
			for _, account := range page {
				if c.JSON {
					views = append(views, accountViewOf(account))
				} else {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", account.ID, account.Username, account.Name, account.Email, stateOf(account))
				}
			}
			after, more = next, next != ""
			if !c.JSON {
				if err := w.Flush(); err != nil {
					return err
				}
			}
		}
		if c.JSON {
			return printJSON(p.stdout, views)
		}
		return nil
	})
}

type accountShow struct {
	storeFlags
	accountName
}

// Run shows one account with what belongs to it.
func (c accountShow) Run(ctx context.Context, p process) error {
	return c.on(ctx, p, c.Account, func(d *broker.Data, id string) error {
		account, err := d.Accounts.Get(ctx, id)
		if err != nil {
			return err
		}
		view := accountViewOf(account)
		credentials, err := d.Credentials.Of(ctx, id)
		if err != nil {
			return err
		}
		for _, credential := range credentials {
			view.Logins = append(view.Logins, loginView{Username: credential.Username, PasswordChangedAt: credential.ChangedAt})
		}
		identities, err := d.Accounts.Identities(ctx, id)
		if err != nil {
			return err
		}
		for _, doc := range identities {
			i := doc.Value
			view.Identities = append(view.Identities, identityView{
				Connector: i.Connector, Issuer: i.Issuer, Subject: i.Subject, Email: i.Email, EmailVerified: i.EmailVerified, LinkedAt: i.LinkedAt,
			})
		}
		for after, more := "", true; more; {
			grants, err := d.Grants.ByAccount(ctx, id, after)
			if err != nil {
				return err
			}
			for _, doc := range grants {
				if g := doc.Value; g.Live() {
					view.Grants = append(view.Grants, grantView{ID: doc.ID, ClientID: g.ClientID, Scopes: g.Scopes, Connector: g.Connector, ACR: g.ACR, CreatedAt: g.CreatedAt})
				}
			}
			if more = len(grants) == store.MaxPage; more {
				after = grants[len(grants)-1].ID
			}
		}
		return c.printAccount(p, view)
	})
}

type accountSetPassword struct {
	storeFlags
	passwordFlag
	accountName
	Username string `help:"For an account that has no username: the one that it gets."`
}

// Run gives an account another password.
func (c accountSetPassword) Run(ctx context.Context, p process) error {
	secret, err := c.passwordFlag.read(p)
	if err != nil {
		return err
	}
	return c.on(ctx, p, c.Account, func(d *broker.Data, id string) error {
		if err := d.Managed.SetPassword(ctx, id, c.Username, secret); err != nil {
			return err
		}
		return c.done(p, "password set", id)
	})
}

type accountDisable struct {
	storeFlags
	accountName
}

// Run disables an account.
func (c accountDisable) Run(ctx context.Context, p process) error {
	return c.on(ctx, p, c.Account, func(d *broker.Data, id string) error {
		if err := d.Managed.Disable(ctx, id); err != nil {
			return err
		}
		return c.done(p, "disabled", id)
	})
}

type accountEnable struct {
	storeFlags
	accountName
}

// Run enables an account again.
func (c accountEnable) Run(ctx context.Context, p process) error {
	return c.on(ctx, p, c.Account, func(d *broker.Data, id string) error {
		if err := d.Managed.Enable(ctx, id); err != nil {
			return err
		}
		return c.done(p, "enabled", id)
	})
}

type accountRemove struct {
	storeFlags
	accountName
}

// Run removes an account. A removal that was cut short is done again with the account's id, by which nobody else finds it any more.
func (c accountRemove) Run(ctx context.Context, p process) error {
	return c.with(ctx, p, func(d *broker.Data) error {
		id, err := d.Managed.Find(ctx, c.Account)
		if errors.Is(err, identity.ErrNotFound) {
			id, err = c.Account, nil
		}
		if err == nil {
			err = d.Managed.Remove(ctx, id)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", c.Account, err)
		}
		return c.done(p, "removed", id)
	})
}

// done says what has been done to an account.
func (f storeFlags) done(p process, what, id string) error {
	if f.JSON {
		return printJSON(p.stdout, map[string]string{strings.ReplaceAll(what, " ", "_"): id})
	}
	_, err := fmt.Fprintln(p.stdout, what, id)
	return err
}

// accountView is an account as the commands print it.
type accountView struct {
	ID string `json:"id"`
	identity.Person
	Disabled   bool           `json:"disabled"`
	Static     bool           `json:"static,omitempty"`
	CreatedAt  time.Time      `json:"created_at"`
	UpdatedAt  time.Time      `json:"updated_at"`
	Logins     []loginView    `json:"logins,omitempty"`
	Identities []identityView `json:"identities,omitempty"`
	Grants     []grantView    `json:"grants,omitempty"` // live ones
}

type loginView struct {
	Username          string    `json:"username"`
	PasswordChangedAt time.Time `json:"password_changed_at"`
}

type identityView struct {
	Connector     string    `json:"connector"`
	Issuer        string    `json:"issuer"`
	Subject       string    `json:"subject"`
	Email         string    `json:"email,omitempty"`
	EmailVerified bool      `json:"email_verified,omitempty"`
	LinkedAt      time.Time `json:"linked_at"`
}

type grantView struct {
	ID        string    `json:"id"`
	ClientID  string    `json:"client_id"`
	Scopes    []string  `json:"scopes"`
	Connector string    `json:"connector,omitempty"`
	ACR       string    `json:"acr,omitempty"`
	CreatedAt time.Time `json:"created_at"`
}

func accountViewOf(a *identity.Account) accountView {
	return accountView{ID: a.ID, Person: a.Person, Disabled: a.Disabled, Static: a.Static, CreatedAt: a.CreatedAt, UpdatedAt: a.UpdatedAt}
}

func stateOf(a *identity.Account) string {
	switch {
	case a.Disabled:
		return "disabled"
	case a.Static:
		return "in the configuration"
	}
	return "active"
}

func (f storeFlags) printAccount(p process, v accountView) error {
	if f.JSON {
		return printJSON(p.stdout, v)
	}
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	line := func(name, text string) {
		if text != "" {
			fmt.Fprintf(w, "%s\t%s\n", name, text)
		}
	}
	line("account id", v.ID)
	line("state", stateOf(&identity.Account{Disabled: v.Disabled, Static: v.Static}))
	line("username", v.Username)
	line("name", v.Name)
	email := v.Email
	if v.EmailVerified {
		email += " (verified)"
	}
	line("email", email)
	line("created", v.CreatedAt.Format(time.RFC3339))
	for _, l := range v.Logins {
		line("password of "+l.Username, "since "+l.PasswordChangedAt.Format(time.RFC3339))
	}
	for _, i := range v.Identities {
		line("login with "+i.Connector, strings.TrimSpace(i.Subject+" "+i.Email))
	}
	for _, g := range v.Grants {
		line("app "+g.ClientID, strings.Join(g.Scopes, " ")+", since "+g.CreatedAt.Format(time.RFC3339))
	}
	return w.Flush()
}
