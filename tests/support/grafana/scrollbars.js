// The library exports its component differently to bundlers than Grafana expects.
const library = require('./node_modules/react-custom-scrollbars-2/lib/index.js');
const component = library.Scrollbars || library.default;
export default component;
export { component as Scrollbars };
