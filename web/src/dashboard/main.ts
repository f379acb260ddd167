/** The entry of the dashboards' page. */
import '../ui/base.css';
import './page.css';
import './tiles.css';
import './edit.css';
import { language } from '../ui/language';
import { Page } from './page';

const root = document.getElementById('app');
if (root === null) throw new Error('the page has no #app');
document.documentElement.lang = language;
new Page(root);
