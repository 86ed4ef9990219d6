package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// healthTimeout is how long a broker may take to say whether it is ready: longer than it gives its own store.
const healthTimeout = 4 * time.Second

type healthCommand struct {
	URL string `help:"Where the broker answers." default:"http://127.0.0.1:8080/readyz"`
}

// Run fails unless the broker says that it is ready.
func (c healthCommand) Run(ctx context.Context, p process) error {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<10))
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("not ready: %s: %s", response.Status, body)
	}
	_, err = fmt.Fprintln(p.stdout, "ready")
	return err
}
