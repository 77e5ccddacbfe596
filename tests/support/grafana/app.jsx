// Draws one board with Grafana's own components, over the HTTP API of a Prometheus.
//
// Address: ?board=UID&prom=URL&width=PIXELS&from=SECONDS&to=SECONDS&var-NAME=VALUE. The menus of Grafana and its heatmap
// are no part of its libraries: heatmaps are drawn here.
import * as D from '@grafana/data';
import * as U from '@grafana/ui';
import React, { useEffect, useState } from 'react';
import { createRoot } from 'react-dom/client';

const asked = new URLSearchParams(location.search);
const [from, to, width] = ['from', 'to', 'width'].map((name) => Number(asked.get(name)));
const step = Math.max(1, Math.round((to - from) / 250));
const theme = D.createTheme({ colors: { mode: 'dark' } });
const ROW = 38;
const GAP = 8;
const PHONE = 768;

// --- options that field configurations may hold; Grafana ignores options that are not registered

const standard = {
  color: D.identityOverrideProcessor,
  decimals: D.numberOverrideProcessor,
  displayName: D.displayNameOverrideProcessor,
  links: D.dataLinksOverrideProcessor,
  mappings: D.valueMappingsOverrideProcessor,
  max: D.numberOverrideProcessor,
  min: D.numberOverrideProcessor,
  noValue: D.stringOverrideProcessor,
  thresholds: D.thresholdsOverrideProcessor,
  unit: D.unitOverrideProcessor,
};
const custom = [
  'align', 'axisCenteredZero', 'axisLabel', 'axisPlacement', 'axisSoftMax', 'axisSoftMin', 'barAlignment', 'cellOptions',
  'drawStyle', 'fillOpacity', 'gradientMode', 'hideFrom', 'inspect', 'lineInterpolation', 'lineStyle', 'lineWidth', 'minWidth',
  'pointSize', 'scaleDistribution', 'showPoints', 'spanNulls', 'stacking', 'thresholdsStyle', 'width',
];
const option = (path, process, isCustom) => ({
  id: isCustom ? `custom.${path}` : path,
  path,
  isCustom,
  name: path,
  description: '',
  editor: () => null,
  override: () => null,
  process,
  settings: {},
  shouldApply: () => true,
  getItemsCount: () => 0,
});
const options = [
  ...Object.entries(standard).map(([path, process]) => option(path, process, false)),
  ...custom.map((path) => option(path, D.identityOverrideProcessor, true)),
];
const registry = new D.FieldConfigOptionsRegistry();
options.forEach((each) => registry.register(each));
D.standardFieldConfigEditorRegistry.setInit(() => options.filter((each) => !each.isCustom));
D.standardTransformersRegistry.setInit(() => {
  const known = Object.values(D.standardTransformers).filter((each) => each && each.id);
  const byId = new Map(known.map((each) => [each.id, each]));
  return [...byId.values()].map((each) => ({ id: each.id, name: each.name, transformation: each, editor: () => null }));
});

// --- data

function variables(board) {
  const chosen = { __rate_interval: asked.get('interval'), __range: `${to - from}s`, __range_s: `${to - from}`, __interval: `${step}s` };
  for (const each of board.templating.list) {
    chosen[each.name] = each.type === 'query' ? each.allValue : each.query;
  }
  return chosen;
}

function filled(text, chosen) {
  const names = Object.keys(chosen).sort((a, b) => b.length - a.length);
  return names.reduce((out, name) => out.split(`\${${name}}`).join(chosen[name]).split(`$${name}`).join(chosen[name]), text || '');
}

async function query(target, chosen) {
  const expr = filled(target.expr, chosen);
  const parameters = target.instant ? { query: expr, time: to } : { query: expr, start: from, end: to, step };
  const path = target.instant ? 'query' : 'query_range';
  const answer = await (await fetch(`${asked.get('prom')}/api/v1/${path}`, { method: 'POST', body: new URLSearchParams(parameters) })).json();
  if (answer.status !== 'success') {
    throw new Error(answer.error);
  }
  return answer.data.result;
}

function asTable(target, found, isOnly) {
  const labels = [...new Set(found.flatMap((each) => Object.keys(each.metric)))].sort();
  const fields = [
    { name: 'Time', type: D.FieldType.time, values: found.map((each) => each.value[0] * 1e3) },
    ...labels.map((label) => ({ name: label, type: D.FieldType.string, values: found.map((each) => each.metric[label]) })),
    { name: isOnly ? 'Value' : `Value #${target.refId}`, type: D.FieldType.number, values: found.map((each) => Number(each.value[1])) },
  ];
  return [D.toDataFrame({ refId: target.refId, meta: { type: 'table' }, fields: found.length ? fields : [] })];
}

// As Grafana's data source does: a step without a point is a gap.
function points(series) {
  if (!series.values) {
    return [series.value];
  }
  const known = new Map(series.values.map(([at, value]) => [Math.round((at - from) / step), value]));
  const count = Math.floor((to - from) / step) + 1;
  return Array.from({ length: count }, (_, place) => [from + place * step, known.get(place) ?? 'NaN']);
}

function asSeries(target, found) {
  return found.map((series) => {
    const shown = points(series);
    const legend = (target.legendFormat || '').replace('__auto', '').replace(/\{\{\s*(.+?)\s*\}\}/g, (_, name) => series.metric[name] ?? '');
    const values = shown.map(([, value]) => (value === 'NaN' ? null : Number(value)));
    return D.toDataFrame({
      refId: target.refId,
      fields: [
        { name: 'Time', type: D.FieldType.time, values: shown.map(([at]) => at * 1e3) },
        { name: 'Value', type: D.FieldType.number, values, labels: series.metric, config: { displayNameFromDS: legend || undefined } },
      ],
    });
  });
}

const transformed = (steps, frames) =>
  new Promise((resolve, reject) => {
    D.transformDataFrame(steps, frames, { interpolate: (text) => text }).subscribe({ next: resolve, error: reject });
  });

async function load(panel, chosen) {
  let frames = [];
  for (const target of panel.targets) {
    const found = await query(target, chosen);
    frames.push(...(target.format === 'table' ? asTable(target, found, panel.targets.length === 1) : asSeries(target, found)));
  }
  if (panel.transformations?.length) {
    frames = await transformed(panel.transformations, frames);
  }
  frames = D.applyFieldOverrides({
    data: frames,
    fieldConfig: panel.fieldConfig,
    fieldConfigRegistry: registry,
    replaceVariables: (text) => filled(text, chosen),
    theme,
    timeZone: 'utc',
  });
  const numbers = frames.flatMap((frame) => frame.fields).filter((field) => field.type === D.FieldType.number);
  numbers.forEach((field, seriesIndex) => {
    field.state = { ...field.state, seriesIndex };
  });
  return frames;
}

// --- panels

const range = { from: D.dateTime(from * 1e3), to: D.dateTime(to * 1e3), raw: { from: 'now-1h', to: 'now' } };

function Values({ panel, frames, width, height }) {
  const shown = panel.options;
  const given = { fieldConfig: panel.fieldConfig, reduceOptions: shown.reduceOptions, data: frames, theme, timeZone: 'utc' };
  const values = D.getFieldDisplayValues({ ...given, replaceVariables: (text) => text, sparkline: false });
  const stat = (each) => (
    <U.BigValue theme={theme} value={each.value.display} count={each.count} width={each.width} height={each.height}
      colorMode={shown.colorMode} graphMode={shown.graphMode} textMode={shown.textMode} justifyMode={shown.justifyMode}
      alignmentFactors={each.alignmentFactors} />
  );
  const bar = (each) => (
    <U.BarGauge theme={theme} value={each.value.display} field={each.value.field} width={each.width} height={each.height}
      orientation={each.orientation} display={each.value.view?.getFieldDisplayProcessor?.(each.value.colIndex)} itemSpacing={8}
      lcdCellWidth={12} displayMode={shown.displayMode} showUnfilled={shown.showUnfilled} valueDisplayMode={shown.valueMode}
      text={shown.text} alignmentFactors={each.alignmentFactors} />
  );
  return (
    <U.VizRepeater getValues={() => values} getAlignmentFactors={D.getDisplayValueAlignmentFactors} width={width} height={height}
      renderValue={panel.type === 'stat' ? stat : bar} source={frames} autoGrid={panel.type === 'stat'} renderCounter={1}
      orientation={shown.orientation} minVizHeight={shown.minVizHeight} maxVizHeight={shown.maxVizHeight} />
  );
}

function Heatmap({ frames, width, height }) {
  const rows = frames.map((frame) => ({ bound: Number(frame.fields[1].labels.le.replace('+Inf', 'Infinity')), values: frame.fields[1].values }));
  rows.sort((a, b) => a.bound - b.bound);
  const cells = rows.map((row, place) => row.values.map((value, at) => Math.max(0, value - (place ? rows[place - 1].values[at] : 0))));
  const most = Math.max(...cells.flat());
  const [left, tall, wide] = [56, (height - 8) / rows.length, (width - 56) / rows[0].values.length];
  return (
    <svg width={width} height={height}>
      {cells.flatMap((row, place) => row.map((value, at) => value > 0 && (
        <rect key={`${place} ${at}`} x={left + at * wide} y={(rows.length - 1 - place) * tall} width={wide + 0.5} height={tall - 1}
          fill={`rgba(87, 148, 242, ${Math.sqrt(value / most)})`} />
      )))}
      {rows.map((row, place) => (
        <text key={row.bound} x={left - 4} y={(rows.length - place) * tall - 3} fontSize={9} fill="#999" textAnchor="end">
          {row.bound === Infinity ? '+Inf' : `${row.bound} s`}
        </text>
      ))}
    </svg>
  );
}

function Body({ panel, frames, width, height }) {
  if (panel.type === 'stat' || panel.type === 'bargauge') {
    return <Values panel={panel} frames={frames} width={width} height={height} />;
  }
  if (!frames.some((frame) => frame.length && frame.fields.some((field) => field.type === D.FieldType.number))) {
    const style = { display: 'flex', height, alignItems: 'center', justifyContent: 'center', color: theme.colors.text.secondary };
    return <div style={style}>{panel.fieldConfig.defaults.noValue}</div>;
  }
  if (panel.type === 'timeseries') {
    return <U.TimeSeries frames={frames} width={width} height={height} timeRange={range} timeZone="utc" legend={panel.options.legend}
      options={panel.options} theme={theme} structureRev={1} />;
  }
  if (panel.type === 'table') {
    return <U.Table data={frames[0]} width={width} height={height} initialSortBy={panel.options.sortBy} fieldConfig={panel.fieldConfig} />;
  }
  return <Heatmap frames={frames} width={width} height={height} />;
}

function Panel({ panel, chosen }) {
  const [state, setState] = useState({});
  useEffect(() => {
    load(panel, chosen).then((frames) => setState({ frames }), (error) => setState({ error: String(error) }));
  }, []);
  const at = panel.gridPos;
  const isPhone = width < PHONE;
  const place = isPhone ? { marginBottom: GAP } : { position: 'absolute', left: ((width - 2 * GAP) * at.x) / 24, top: at.y * ROW };
  const across = isPhone ? width - 3 * GAP : Math.round(((width - 2 * GAP) * at.w) / 24) - GAP;
  return (
    <div style={place} data-panel={panel.title} data-state={state.error ?? (state.frames ? 'drawn' : 'waiting')}>
      <U.PanelChrome title={panel.title} width={across} height={at.h * ROW - GAP} padding={panel.type === 'table' ? 'none' : 'md'}>
        {(inner, tall) => (state.frames ? <Body panel={panel} frames={state.frames} width={inner} height={tall} /> : <div>{state.error}</div>)}
      </U.PanelChrome>
    </div>
  );
}

function Row({ panel }) {
  const place = width < PHONE ? {} : { position: 'absolute', top: panel.gridPos.y * ROW + GAP };
  return <div style={{ ...place, fontSize: 16 }}>▾ {panel.title}</div>;
}

function Board({ board }) {
  const chosen = variables(board);
  const bottom = Math.max(...board.panels.map((panel) => (panel.gridPos.y + panel.gridPos.h) * ROW)) + 60;
  const text = { color: theme.colors.text.primary, fontFamily: theme.typography.fontFamily, fontSize: 14 };
  return (
    <D.ThemeContext.Provider value={theme}>
      <U.GlobalStyles />
      <U.PortalContainer />
      <div style={{ ...text, background: theme.colors.background.canvas, padding: GAP, minHeight: bottom }}>
        <div style={{ fontSize: 18, height: 34 }}>{board.title}</div>
        <div style={{ position: 'relative' }}>
          {board.panels.map((panel) => panel.type === 'row' ? <Row key={panel.id} panel={panel} /> : <Panel key={panel.id} panel={panel} chosen={chosen} />)}
        </div>
      </div>
    </D.ThemeContext.Provider>
  );
}

fetch(`boards/${asked.get('board')}.json`)
  .then((answer) => answer.json())
  .then((board) => createRoot(document.getElementById('root')).render(<Board board={board} />));
