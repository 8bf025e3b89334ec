package load

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAnSLOIsReadAsItIsWritten(t *testing.T) {
	slo, err := ParseSLO("p99<2ms, p999 <= 10ms,errors<0.01%,max<1s,rate>5k/s,late<0.5")
	require.NoError(t, err)
	require.Equal(t, []Objective{
		{Text: "p99<2ms", Measure: "p99", Percentile: 99, Limit: 2000},
		{Text: "p999 <= 10ms", Measure: "p999", Percentile: 99.9, OrEqual: true, Limit: 10_000},
		{Text: "errors<0.01%", Measure: MeasureErrors, Limit: 0.0001},
		{Text: "max<1s", Measure: MeasureMax, Limit: 1e6},
		{Text: "rate>5k/s", Measure: MeasureRate, Above: true, Limit: 5000},
		{Text: "late<0.5", Measure: MeasureLate, Limit: 0.5},
	}, slo.Objectives)
}

func TestWhatIsWrongWithAnSLOIsSaid(t *testing.T) {
	for text, want := range map[string]string{
		"":                 `has no < or >`,
		"p99":              `has no < or >`,
		"p99<2":            `not a duration`,
		"p99<-1ms":         `above 0`,
		"p100<2ms":         `no percentile`,
		"p99>2ms":          `only a rate`,
		"speed<2ms":        `measure "speed" is not known`,
		"errors<2":         `not a share`,
		"errors<NaN":       `not a share`,
		"rate<5":           `above something`,
		"p99<2ms,p99<3ms":  `limited twice`,
		"p99<2ms,,max<1ms": `has no < or >`,
	} {
		_, err := ParseSLO(text)
		require.ErrorContains(t, err, want, text)
		require.ErrorContains(t, err, `SLO "`+text+`"`)
	}
}

func TestAnSLOIsHeldAgainstWhatWasMeasured(t *testing.T) {
	s := NewSample(1)
	for range 98 {
		s.Record(time.Millisecond)
	}
	s.Record(5*time.Millisecond, 5*time.Millisecond)
	op := &s.Operations[0]
	op.Offered, op.Skipped = 110, 10

	slo, err := ParseSLO("p50<2ms,p99<2ms,errors<=10%,rate>40")
	require.NoError(t, err)
	var met []bool
	for _, o := range slo.Objectives {
		met = append(met, o.Met(o.Measured(op, 2*time.Second)))
	}
	require.Equal(t, []bool{true, false, true, true}, met)
}
