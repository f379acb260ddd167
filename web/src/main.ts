/** The trend page's entry. */
import './ui/base.css';
import { App } from './trend/app';
import { language } from './ui/language';
import { text } from './ui/strings';

const root = document.getElementById('app');
if (root === null) throw new Error('the page has no #app');
document.documentElement.lang = language;
document.title = `${text.page} · ${text.title}`;
new App(root);
