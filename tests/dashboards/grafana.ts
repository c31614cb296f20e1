// SPDX-License-Identifier: GPL-3.0-or-later
// What a dashboard of ours may be, by Grafana's own types. In JSON a value of an enumeration is its text.
import type { Dashboard, Panel, VariableModel } from '@grafana/schema';
import type { Options as Stat } from '@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen';
import type { Options as Table } from '@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen';
import type { Options as TimeSeries } from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';

type Json<T> = T extends string
  ? `${T}`
  : T extends Array<infer Item>
    ? Array<Json<Item>>
    : T extends object
      ? { [Key in keyof T]: Json<T[Key]> }
      : T;
// Grafana fills in what is left out of a panel's options.
type Kind<Name extends string, Options> = Json<Omit<Panel, 'type' | 'options'>> & { type: Name; options: Json<Partial<Options>> };

export type Ours = Json<Omit<Dashboard, 'panels' | 'templating'>> & {
  panels: Array<Kind<'stat', Stat> | Kind<'table', Table> | Kind<'timeseries', TimeSeries>>;
  templating: { list: Array<Json<VariableModel>> };
};
