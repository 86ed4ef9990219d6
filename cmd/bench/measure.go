package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"text/tabwriter"
	"time"
)

// figures are what one measurement gave.
type figures struct {
	PerSecond float64 `json:"per_second"`
	P50       float64 `json:"p50_ms"`
	P99       float64 `json:"p99_ms"`
	CPU       float64 `json:"cpu_ms"` // the server's, per operation
}

// result is a row: the medians of its rounds.
type result struct {
	Name   string  `json:"name"`
	Budget float64 `json:"budget_cpu_ms,omitempty"`
	figures
	row    row
	rounds []figures
}

func (r *result) settle() {
	pick := func(of func(figures) float64) float64 {
		var values []float64
		for _, f := range r.rounds {
			values = append(values, of(f))
		}
		return median(values)
	}
	r.PerSecond = pick(func(f figures) float64 { return f.PerSecond })
	r.P50 = pick(func(f figures) float64 { return f.P50 })
	r.P99 = pick(func(f figures) float64 { return f.P99 })
	r.CPU = pick(func(f figures) float64 { return f.CPU })
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	middle := len(values) / 2
	if len(values)%2 == 1 {
		return values[middle]
	}
	return (values[middle-1] + values[middle]) / 2
}

// percentile is the smallest value that p of all (0 to 1) are not above. values are sorted.
func percentile(values []time.Duration, p float64) time.Duration {
	if len(values) == 0 {
		return 0
	}
	i := int(p*float64(len(values))+0.9999999) - 1
	return values[min(max(i, 0), len(values)-1)]
}

// measure lets every connection do the row's operation for the time given.
func measure(w *world, r row, o options) (figures, error) {
	server := r.server(w)
	operations := make([]operation, o.Connections)
	for i := range operations {
		var err error
		if operations[i], err = r.make(w, i); err != nil {
			return figures{}, err
		}
		if err := operations[i](); err != nil { // warm: connections, discovery, the account
			return figures{}, err
		}
	}
	before, err := server.cpu()
	if err != nil {
		return figures{}, err
	}
	samples := make([][]time.Duration, o.Connections)
	errs := make([]error, o.Connections)
	began := time.Now()
	end := began.Add(o.Duration)
	var done sync.WaitGroup
	for i, operate := range operations {
		done.Go(func() {
			for {
				start := time.Now()
				if !start.Before(end) {
					return
				}
				if errs[i] = operate(); errs[i] != nil {
					return
				}
				samples[i] = append(samples[i], time.Since(start))
			}
		})
	}
	done.Wait()
	elapsed := time.Since(began)
	after, err := server.cpu()
	if err := errors.Join(append(errs, err)...); err != nil {
		return figures{}, err
	}
	var all []time.Duration
	for _, s := range samples {
		all = append(all, s...)
	}
	slices.Sort(all)
	n := float64(len(all))
	return figures{
		PerSecond: n / elapsed.Seconds(),
		P50:       percentile(all, 0.50).Seconds() * 1000,
		P99:       percentile(all, 0.99).Seconds() * 1000,
		CPU:       (after - before).Seconds() * 1000 / n,
	}, nil
}

// processFigures are the broker's, apart from any operation.
type processFigures struct {
	StartMilliseconds   float64 `json:"start_ms"`   // the first: keys are made
	RestartMilliseconds float64 `json:"restart_ms"` // on what is there
	IdleMiB             float64 `json:"idle_mib"`
	LoadedMiB           float64 `json:"loaded_mib"`
}

func printTable(out io.Writer, results []*result, p processFigures) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "operation\tops/s\tp50 ms\tp99 ms\tCPU ms\tbudget\tof it\t")
	for _, r := range results {
		budget, ratio := "–", "–"
		if r.Budget > 0 {
			budget, ratio = fmt.Sprintf("%.2f", r.Budget), fmt.Sprintf("%.0f%%", 100*r.CPU/r.Budget)
		}
		fmt.Fprintf(w, "%s\t%.0f\t%.2f\t%.2f\t%.3f\t%s\t%s\t\n", r.Name, r.PerSecond, r.P50, r.P99, r.CPU, budget, ratio)
	}
	_ = w.Flush() // standard output
	fmt.Fprintf(out, "\nstart %.0f ms, restart %.0f ms (budget 100); memory %.0f MiB idle (budget 40), %.0f MiB after the load\n",
		p.StartMilliseconds, p.RestartMilliseconds, p.IdleMiB, p.LoadedMiB)
}
